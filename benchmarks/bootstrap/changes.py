"""What changes.yml says, for pyinfra."""

from pyinfra import host
from pyinfra.operations import files, systemd

run = host.data.bench_run
for number in range(1, 17):
    files.template(
        name=f"File {number}",
        src="templates/part.conf.j2",
        dest=f"/etc/bench/conf.d/part-{number}.conf",
        mode="644",
        item=number,
        bench_run=run,
        inventory_hostname=host.name,
        cluster_ip=host.data.cluster_ip,
    )
for number in range(1, 11):
    files.line(
        name=f"Line {number}", path=f"/etc/bench/conf.d/lines-{number}", line="^run = .*$", replace=f"run = {run}"
    )
for number in range(1, 11):
    files.block(
        name=f"Block {number}",
        path=f"/etc/bench/conf.d/blocks-{number}",
        content=f"run = {run}",
        marker="# {mark} bench",
        begin="BEGIN",
        end="END",
    )
for number in range(1, 5):
    systemd.service(name=f"Service {number}", service=f"bench@{number}.service", running=True, restarted=True)
