"""Types of everything that the admin side and the node program send each other, and the decoder that checks them.

Both ends import these modules and no other part of each other. Python 3.7, standard library only.
"""
