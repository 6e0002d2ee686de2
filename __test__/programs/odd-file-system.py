# A file system that passes everything on to a directory, except what it is told to be unable to do.
#
#   odd-file-system.py BACK MOUNT key=value...
#
# dirsync, link, chmod, chown, sync: the error that this gets (EINVAL, ENOSYS…). names: how many bytes a name may have.
# inodes=unstable: a file has another number at each look. A rename that may not replace is refused always, because
# version 2 of FUSE does not know it. It needs Debian's python3-fusepy.
import errno
import os
import random
import sys

from fusepy import FUSE, FuseOSError, Operations

back, mount = sys.argv[1:3]
odd = dict(word.split('=', 1) for word in sys.argv[3:])
longest = int(odd.get('names', 255))
STAT = ('st_atime', 'st_ctime', 'st_mtime', 'st_gid', 'st_uid', 'st_mode', 'st_nlink', 'st_size', 'st_ino')
STATFS = ('f_bavail', 'f_bfree', 'f_blocks', 'f_bsize', 'f_favail', 'f_ffree', 'f_files', 'f_flag', 'f_frsize')


def refuse(what):
    if what in odd:
        raise FuseOSError(getattr(errno, odd[what]))


class OddFileSystem(Operations):
    def real(self, path):
        if len(os.fsencode(os.path.basename(path))) > longest:
            raise FuseOSError(errno.ENAMETOOLONG)
        return back + path

    def getattr(self, path, handle=None):
        found = os.lstat(self.real(path))
        known = {name: getattr(found, name) for name in STAT}
        if 'inodes' in odd:
            known['st_ino'] = random.getrandbits(40)
        return known

    def statfs(self, path):
        found = os.statvfs(self.real(path))
        return {**{name: getattr(found, name) for name in STATFS}, 'f_namemax': longest}

    def readdir(self, path, handle):
        return ['.', '..', *os.listdir(self.real(path))]

    def readlink(self, path):
        return os.readlink(self.real(path))

    def mkdir(self, path, mode):
        os.mkdir(self.real(path), mode)

    def rmdir(self, path):
        os.rmdir(self.real(path))

    def unlink(self, path):
        os.unlink(self.real(path))

    def symlink(self, path, target):
        os.symlink(target, self.real(path))

    def rename(self, old, new):
        os.rename(self.real(old), self.real(new))

    def link(self, path, target):
        refuse('link')
        os.link(self.real(target), self.real(path))

    def chmod(self, path, mode):
        refuse('chmod')
        os.chmod(self.real(path), mode)

    def chown(self, path, uid, gid):
        refuse('chown')
        os.lchown(self.real(path), uid, gid)

    def utimens(self, path, times=None):
        os.utime(self.real(path), times)

    def access(self, path, mode):
        if not os.access(self.real(path), mode):
            raise FuseOSError(errno.EACCES)

    def open(self, path, flags):
        return os.open(self.real(path), flags)

    def create(self, path, mode, info=None):
        return os.open(self.real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path, length, offset, handle):
        return os.pread(handle, length, offset)

    def write(self, path, data, offset, handle):
        return os.pwrite(handle, data, offset)

    def truncate(self, path, length, handle=None):
        os.truncate(self.real(path) if handle is None else handle, length)

    def flush(self, path, handle):
        return 0

    def release(self, path, handle):
        os.close(handle)

    def fsync(self, path, data_only, handle):
        refuse('sync')
        os.fsync(handle)

    def fsyncdir(self, path, data_only, handle):
        refuse('dirsync')
        return 0


options = {'foreground': True, 'allow_other': True}
if 'inodes' in odd:
    options.update(use_ino=True, attr_timeout=0, entry_timeout=0, negative_timeout=0)
FUSE(OddFileSystem(), mount, **options)
