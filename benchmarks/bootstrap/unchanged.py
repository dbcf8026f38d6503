"""What unchanged.yml says, for pyinfra."""

from pyinfra import host, inventory
from pyinfra.operations import apt, files, server, systemd

server.group(name="Group", group="bench", gid=7700)
server.user(name="User", user="bench", uid=7700, group="bench", home="/home/bench", shell="/bin/bash")  # noqa: S604  # the login shell
files.directory(name="Directory of settings", path="/etc/bench", user="root", group="root", mode="755")
files.directory(name="Directory of parts", path="/etc/bench/conf.d", user="root", group="root", mode="755")
files.directory(name="Directory of data", path="/srv/bench", user="bench", group="bench", mode="750")
files.directory(name="Directory of logs", path="/var/log/bench", user="bench", group="bench", mode="755")
apt.packages(name="Packages for the network", packages=["openssh-server", "network-manager"])
apt.packages(name="Packages for people", packages=["nano", "rsync", "wget"])
apt.packages(name="Packages for programs", packages=["python3", "ca-certificates"])
for title, source, target, mode in (
    ("Main settings", "main.conf.j2", "/etc/bench/main.conf", "644"),
    ("Settings of the network", "network.conf.j2", "/etc/bench/conf.d/network.conf", "644"),
    ("Settings of the storage", "storage.conf.j2", "/etc/bench/conf.d/storage.conf", "640"),
    ("Unit of the services", "bench@.service.j2", "/etc/systemd/system/bench@.service", "644"),
):
    files.template(
        name=title,
        src=f"templates/{source}",
        dest=target,
        mode=mode,
        inventory_hostname=host.name,
        cluster_ip=host.data.cluster_ip,
        cluster_interface=host.data.cluster_interface,
    )
files.link(name="Link to the settings", path="/etc/bench/current", target="/etc/bench/main.conf")
files.line(
    name="A line that is to be there",
    path="/etc/bench/limits",
    line=r"\* hard nofile 65536",
    replace="* hard nofile 65536",
)
files.line(
    name="A line with another value", path="/etc/bench/limits", line="^.*soft nofile.*$", replace="* soft nofile 4096"
)
files.line(
    name="A line of a file that a person wrote",
    path="/etc/nanorc",
    line="^.*set linenumbers$",
    replace="set linenumbers",
)
files.block(
    name="Names of the hosts",
    path="/etc/hosts",
    content="\n".join(f"{each.data.cluster_ip} {each.name}" for each in inventory),
    marker="# {mark} bench",
    begin="BEGIN",
    end="END",
)
files.block(
    name="A block of its own file",
    path="/etc/bench/limits",
    content="@bench - nice 10",
    marker="# {mark} bench",
    begin="BEGIN",
    end="END",
)
systemd.service(name="SSH", service="ssh.service", running=True, enabled=True)
systemd.service(name="Network", service="NetworkManager.service", running=True, enabled=True)
systemd.service(name="First service", service="bench@1.service", running=True)
systemd.service(name="Second service", service="bench@2.service", running=True)
systemd.service(name="Third service", service="bench@3.service", running=True)
