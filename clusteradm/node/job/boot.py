"""Boot of the head: the jobs that its restart has interrupted go on.

`python3 -m clusteradm.node.job.boot`, which clusteradm-jobs.service runs.
"""

import os
import pwd
import sys

from clusteradm.node.account import AccountError
from clusteradm.node.job import folders, starter
from clusteradm.node.job.control import resumable
from clusteradm.node.spec.wire import job_names


def main() -> None:
    """Start the supervisor of every job that was interrupted. One that cannot be started costs no other."""
    for job in folders.owned():
        own = folders.own(job)
        try:
            user = pwd.getpwuid(os.stat(os.path.join(own, job_names.RUN)).st_uid).pw_name
            if resumable(user, own):
                starter.start(job, user, own)
        except (OSError, KeyError, AccountError) as error:
            sys.stderr.write("job %s: %s\n" % (job, error))


if __name__ == "__main__":
    main()
