"""What is done to hosts as hosts: enrolment, drains."""
