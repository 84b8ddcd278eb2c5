#!/usr/bin/env python3
"""An ext4 file system whose power can be cut, and the proof of what such a cut may be asked.

Usage: disk.py [CUTS]: appends 704 bytes and calls fdatasync, again and again, and cuts; says how many appends were
lost whose fdatasync had returned success before the cut began, and how many whose fdatasync returned success after it.
Needs root.

Measured on Linux 6.18, ext4, 750 cuts: none before, 40 after. ext4 looks whether the file system has been shut down when the
call begins; when the ioctl aborts the journal after that, the transaction with the new file size is dropped, jbd2 finds that it
is neither running nor committing, and takes it for committed. In a real power cut that call would not have returned.
So the first number must be 0, and a test may count only what was answered before the cut.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
APPEND_BYTES = 704


class DiskFailed(Exception):
    """The file system could not be made or mounted."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DiskFailed(f"`{' '.join(command)}`: {done.stderr.strip() or done.returncode}")


class Disk:
    """An ext4 file system in a file on a loop device."""

    def __init__(self, prefix="powercut-"):
        self.home = tempfile.mkdtemp(prefix=prefix)
        self.image, self.root, self.handle = f"{self.home}/image", f"{self.home}/mounted", None
        os.mkdir(self.root)
        run("truncate", "-s", "8G", self.image)
        run("mkfs.ext4", "-q", "-F", self.image)

    def mount(self):
        run("mount", "-o", "loop", self.image, self.root)
        # Opened now: a cut must not have to wait for anything.
        self.handle = os.open(self.root, os.O_RDONLY)

    def cut(self):
        """Drops everything that is not synced; every call from now on fails."""
        fcntl.ioctl(self.handle, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))

    def unmount(self):
        os.close(self.handle)
        for _ in range(100):
            if subprocess.run(["umount", self.root], capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        run("umount", self.root)

    def fill(self, leave=0):
        """Takes all room but so many bytes for a file of no use; root's own blocks too when nothing is left."""
        stat = os.statvfs(self.root)
        wanted, step = max(0, stat.f_frsize * (stat.f_bavail if leave else stat.f_bfree) - leave), 1 << 30
        with open(f"{self.root}/ballast", "wb") as file:
            taken = 0
            while step >= stat.f_frsize and taken < wanted:
                try:
                    size = min(step, wanted - taken)
                    os.posix_fallocate(file.fileno(), taken, size)
                    taken += size
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2

    def make_room(self):
        os.unlink(f"{self.root}/ballast")

    def remove(self):
        subprocess.run(["umount", "-l", self.root], capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def append(number):
    return struct.pack("<Q", number) * (APPEND_BYTES // 8)


def append_for_ever(path, synced):
    """The child: tells in `synced` how many appends fdatasync has answered for."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    # As RocksDB does with its write-ahead log.
    keep_size = 1
    ctypes.CDLL(None).fallocate(file, keep_size, ctypes.c_long(0), ctypes.c_long(64 << 20))
    os.fsync(file)
    try:
        for number in range(1, 90000):
            os.pwrite(file, append(number), APPEND_BYTES * (number - 1))
            os.fdatasync(file)
            struct.pack_into("<Q", synced, 0, number)
    except OSError:
        pass
    os._exit(0)


def one_cut(disk):
    """How many appends were answered before the cut, answered at all, and found."""
    path, synced = f"{disk.root}/file", mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        append_for_ever(path, synced)
    while synced[:8] == bytes(8):
        time.sleep(0.001)
    time.sleep(random.uniform(0.02, 0.2))
    before = struct.unpack("<Q", synced[:8])[0]
    disk.cut()
    os.waitpid(child, 0)
    answered = struct.unpack("<Q", synced[:8])[0]
    disk.unmount()
    disk.mount()
    with open(path, "rb") as file:
        data = memoryview(file.read())
    found = 0
    while data[found * APPEND_BYTES :][:APPEND_BYTES] == append(found + 1):
        found += 1
    return before, answered, found


def main():
    cuts, disk = int(sys.argv[1]) if len(sys.argv) > 1 else 100, Disk()
    lost_before = lost_after = 0
    try:
        disk.mount()
        for _ in range(cuts):
            before, answered, found = one_cut(disk)
            lost_before += max(0, before - found)
            lost_after += max(0, answered - max(before, found))
        disk.unmount()
    finally:
        disk.remove()
    print(f"{cuts} cuts: lost {lost_before} appends answered before the cut, {lost_after} after it")
    sys.exit(1 if lost_before else 0)


if __name__ == "__main__":
    main()
