"""Names of a job: its states, its files, the Python of its ranks.

On the shared file system, CLUSTER_SHARED/jobs/ID/, which every board can write:
inputs.pack    the input files' bytes, one after another; removed when the job is complete, or with the job
journal.jsonl  the results as they came, with the number of the attempt
results.jsonl  one line an input, in input order; appears once, complete
feed-N.pack    of a job that stays open for more inputs: those of batch N; removed with its results
outputs-ID/    output tensors that are too large for a line; results.jsonl names them by this path
log            output of mpirun and the ranks
held           touched every minute as long as the supervisor wants Slurm's allocation

On the head's own disk, /var/lib/clusteradm/jobs/ID/, by root:
spec.json      what is to be done; never changes

There in run/, by the cluster user:
inputs.jsonl   one line an input: {"input": name, "offset", "size", "form"}; the form is null (a picture),
               [dtype, shape], ["sound", channels], ["several", [[dtype, shape], ...]], or {"error": why} (an input
               that cannot be read)
attempt-N.json which rank sits where in attempt N
hostfile       the same for mpirun
progress.json  what rank 0 knows, twice a second
status.json    what the supervisor knows
timeline.json  how many results came when, by rank 0
suspects.json  inputs that a rank may have been lost by, for the next attempt
tpus.json      the TPUs that have failed, until root has put them on the list of drains
srun           starts a daemon of mpirun's on a host, in Slurm's allocation
recall         there once rank 0 is to end the attempt, so that another takes back what this one does without
feed/N.jsonl   of a job that stays open: as inputs.jsonl, of batch N, until that has its results
found/N.jsonl  the results of batch N, until they are fetched
counted.json   the number of results of the batches that are done with
taken          the record of the files that were taken from a folder of the head
heard          changed when the command that sends inputs asks for something
end            there once no more inputs come
cancel         there once the job is to be cancelled; without it a supervisor that is stopped is started again
"""

STARTING, RUNNING, COMPLETE, FAILED, CANCELLED = "starting", "running", "complete", "failed", "cancelled"
# Its supervisor was stopped, by a restart of the head for one, and nobody cancelled it: it can be resumed.
INTERRUPTED = "interrupted"
QUEUED = "queued"  # behind jobs that have its TPUs
STATES = (QUEUED, STARTING, RUNNING, COMPLETE, FAILED, CANCELLED, INTERRUPTED)
UNFINISHED = (QUEUED, STARTING, RUNNING)
OPEN = (*UNFINISHED, INTERRUPTED)  # of a job that has not come to its end

ID = "[0-9]{8}-[0-9]{6}-[0-9a-f]{6}"
SLURM_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"  # of a partition or an account

JOBS = "jobs"  # the folder of all jobs, below the shared directory and below the state directory
RUN = "run"  # the folder of what the cluster user writes on the head's own disk
SPEC = "spec.json"
PACK = "inputs.pack"
INPUTS = "inputs.jsonl"
ATTEMPT = "attempt-%d.json"
HOSTFILE = "hostfile"
JOURNAL = "journal.jsonl"
PROGRESS = "progress.json"
STATUS = "status.json"
TIMELINE = "timeline.json"
SUSPECTS = "suspects.json"
TPUS = "tpus.json"
RECALL = "recall"
CANCEL = "cancel"
FEED = "feed"
FEED_PACK = "feed-%d.pack"
FOUND = "found"
BATCH = "%d.jsonl"  # in either
COUNTED = "counted.json"
TAKEN = "taken"
HEARD = "heard"
END = "end"
# Input I of batch N has the number N * BATCH_INPUTS + I within the job.
BATCH_INPUTS = 10_000_000
RESULTS = "results.jsonl"
LOG = "log"
HELD = "held"
AGENT = "srun"
NOT_BEGUN = "this rank has ended: the attempt cannot begin without it"  # a line of the log
OUTPUTS = "outputs-%s"  # the job's id
# The name of an output tensor's file, as results.jsonl has it: the folder of its job, input and output by number; of a
# map of classes, a picture.
OUTPUT_FILE = "outputs-" + ID + "/[0-9]{1,18}-([0-9]{1,4}[.]npy|map[.]npy|map[.]png)"

# What mpirun starts on every host; bootstrap puts it there.
PYTHON = "/opt/clusteradm/bin/python3"

# In the place of a job, where a host's server has a TPU.
SERVER = "server"
# Before the port of a USB Accelerator, in its address; the address of another TPU is a PCI address.
USB = "usb:"
