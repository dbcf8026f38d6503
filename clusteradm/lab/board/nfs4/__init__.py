"""An NFSv4.0 client in user space, behind FUSE, for `mount -t nfs4` on a virtual board.

A board's own kernel has an NFS client; the kernel that the lab's machine runs may have none. Runs on the board's
python3, standard library only. Arrows: mount -> filesystem -> (client -> attributes, rpc -> xdr), fuse.
"""
