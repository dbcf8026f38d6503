"""Operations on hosts as hosts: enrolment, drains, the reset of a TPU."""
