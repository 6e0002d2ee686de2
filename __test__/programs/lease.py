# Holds a write lease on a file, as an NFS server or samba does for a client, and gives it back some time after the
# kernel has asked for that.
#
#   lease.py FILE SECONDS
import fcntl
import os
import signal
import sys
import time

descriptor = os.open(sys.argv[1], os.O_RDWR)


def give_back(*_):
    time.sleep(float(sys.argv[2]))
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os._exit(0)


signal.signal(signal.SIGIO, give_back)
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
time.sleep(60)
