"""Runs on a compute node: what programs expect of a mounted NFS. Prints "ok NAME" or dies at the first defect.

usage: python3 nfs_semantics.py FOLDER
"""

import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import socket
import stat
import sys
import threading
import time

root = sys.argv[1]
os.umask(0o022)


def path(name):
    return os.path.join(root, name)


def write(name, data, mode="wb"):
    with open(path(name), mode) as file:
        file.write(data)


def read(name):
    with open(path(name), "rb") as file:
        return file.read()


def refused(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError(f"{arguments!r} was not refused")


def create_and_append():
    write("a", b"one\n")
    write("a", b"two\n", "ab")
    assert read("a") == b"one\ntwo\n"
    assert os.stat(path("a")).st_size == 8
    assert stat.S_IMODE(os.stat(path("a")).st_mode) == 0o644
    assert os.stat(path("a")).st_uid == os.getuid()


def truncate():
    write("t", b"0123456789")
    write("t", b"ab")
    assert read("t") == b"ab"
    os.truncate(path("t"), 5)
    assert read("t") == b"ab\0\0\0"


def rename_over_existing():
    write("old", b"old")
    write("new", b"new")
    with open(path("old"), "rb") as reader:
        os.rename(path("new"), path("old"))
        assert reader.read() == b"old", "an open file stays what it was"
    assert read("old") == b"new"
    refused(errno.ENOENT, os.stat, path("new"))


def unlink_while_open():
    write("gone", b"still here")
    with open(path("gone"), "rb") as reader:
        os.unlink(path("gone"))
        refused(errno.ENOENT, os.stat, path("gone"))
        assert reader.read() == b"still here"
    # FUSE tells of the last close a moment after it.
    end = time.monotonic() + 60
    while any(name.startswith(".nfs") for name in os.listdir(root)):
        assert time.monotonic() < end, "it is still there under its other name"
        time.sleep(0.05)


def modes_and_times():
    write("m", b"")
    os.chmod(path("m"), 0o750)  # noqa: S103
    assert stat.S_IMODE(os.stat(path("m")).st_mode) == 0o750
    os.utime(path("m"), (1000000000, 1000000001))
    assert os.stat(path("m")).st_mtime == 1000000001
    with open(path("read-only"), "wb", opener=lambda name, flags: os.open(name, flags, 0o444)) as file:
        file.write(b"x" * 100)
    assert read("read-only") == b"x" * 100


def links():
    write("target", b"1")
    os.symlink("target", path("soft"))
    assert os.readlink(path("soft")) == "target"
    assert read("soft") == b"1"
    os.link(path("target"), path("hard"))
    assert os.stat(path("target")).st_nlink == 2
    assert os.stat(path("hard")).st_ino == os.stat(path("target")).st_ino


def folders():
    os.makedirs(path("x/y/z"))
    refused(errno.EEXIST, os.mkdir, path("x"))
    refused(errno.ENOTEMPTY, os.rmdir, path("x"))
    os.rename(path("x/y"), path("x/w"))
    assert os.listdir(path("x")) == ["w"]
    shutil.rmtree(path("x"))
    refused(errno.ENOENT, os.listdir, path("x"))


def big_file():
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with open(path("big"), "wb") as file:
        for _ in range(64):
            file.write(block)
            digest.update(block)
        file.flush()
        os.fsync(file.fileno())
    again = hashlib.sha256()
    with open(path("big"), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for piece in iter(lambda: file.read(1 << 20), b""):
            again.update(piece)
    assert digest.digest() == again.digest()
    with open(path("big"), "r+b") as file:
        os.pwrite(file.fileno(), b"HOLE", 70 << 20)
        assert os.pread(file.fileno(), 8, (70 << 20) - 4) == b"\0\0\0\0HOLE"
    os.unlink(path("big"))


def exclusive():
    os.close(os.open(path("lock"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    refused(errno.EEXIST, os.open, path("lock"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def local_lock():
    with open(path("lock"), "wb") as one, open(path("lock"), "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        refused(errno.EWOULDBLOCK, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def mapped():
    write("map", b"abc" * 10000)
    with open(path("map"), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[29997:] == b"abc"
        assert len(view) == 30000


def space():
    found = os.statvfs(root)
    assert found.f_blocks > found.f_bavail > 0
    assert found.f_namemax == 255


def many_names():
    os.mkdir(path("many"))
    wanted = {f"file-{number:04d}-with-a-name-of-some-length" for number in range(2000)}
    for name in wanted:
        os.close(os.open(path("many/" + name), os.O_CREAT | os.O_WRONLY))
    found = os.listdir(path("many"))
    assert len(found) == len(set(found)) and set(found) == wanted
    with os.scandir(path("many")) as entries:
        assert sum(entry.stat().st_size == 0 for entry in entries) == 2000
    shutil.rmtree(path("many"))


def parallel_reads():
    data = os.urandom(8 << 20)
    write("shared", data)
    wrong = []

    def check(number):
        with open(path("shared"), "rb") as file:
            for step in range(16):
                place = (step * 7919 * (number + 1) * 4096) % (7 << 20)
                if os.pread(file.fileno(), 300000, place) != data[place : place + 300000]:
                    wrong.append((number, place))

    threads = [threading.Thread(target=check, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def strange_names():
    for name in ("with space", "ümläut", "new\nline", "n" * 255):
        write(name, b"x")
        assert name in os.listdir(root)
        os.unlink(path(name))
    refused(errno.ENAMETOOLONG, os.stat, path("n" * 256))


def fifo_and_socket():
    os.mkfifo(path("fifo"))
    assert stat.S_ISFIFO(os.stat(path("fifo")).st_mode)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path("socket"))
        assert stat.S_ISSOCK(os.stat(path("socket")).st_mode)


for test in (
    create_and_append,
    truncate,
    rename_over_existing,
    unlink_while_open,
    modes_and_times,
    links,
    folders,
    big_file,
    exclusive,
    local_lock,
    mapped,
    space,
    many_names,
    parallel_reads,
    strange_names,
    fifo_and_socket,
):
    begin = time.time()
    test()
    print(f"ok {test.__name__} {time.time() - begin:.2f} s", flush=True)
