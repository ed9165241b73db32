/*
 * Faults of files inside of one node, loaded by LD_PRELOAD and steered at run time through a page that is mapped.
 *
 * A call on a file below ALLUVIUM_WORLD_DIR fails with EIO when the page says so. A sync that failed makes later syncs of
 * that file lie: they say that they worked and write nothing, as a kernel does that marked the pages clean. A sync may
 * lie from the start as well.
 */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct page *alluvium_page;
static const char *dir;
static size_t dir_length;

/* The file whose sync failed. An inode's number is used again for other files, so its time of birth is looked at too. */
static struct {
    atomic_int is_set;
    uint64_t device, inode, born;
} liar;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("ALLUVIUM_WORLD_PAGE");
    dir = getenv("ALLUVIUM_WORLD_DIR");
    dir_length = dir ? strlen(dir) : 0;
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) alluvium_page = mapped;
    close(fd);
}

static void count(struct trap *trap, const char *path) {
    size_t length = strnlen(path, sizeof trap->path - 1);
    memcpy(trap->path, path, length);
    trap->path[length] = 0;
    atomic_fetch_add(&trap->caught, 1);
}

/* Whether this call is one that is caught; takes it when it is. Leaves errno alone. */
static int caught(int fd, int which) {
    char link[64], path[PATH_MAX];
    if (!alluvium_page || !dir_length) return 0;
    struct trap *trap = &alluvium_page->traps[which];
    if (atomic_load(&trap->left) <= 0) return 0;
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = error;
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, dir, dir_length) || !strstr(path, trap->filter)) return 0;
    if (atomic_load(&trap->skip) > 0 && atomic_fetch_sub(&trap->skip, 1) > 0) return 0;
    if (atomic_fetch_sub(&trap->left, 1) <= 0) {
        atomic_fetch_add(&trap->left, 1);
        return 0;
    }
    count(trap, path);
    return 1;
}

static int identify(int fd, uint64_t *device, uint64_t *inode, uint64_t *born) {
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status)) return 0;
    *device = (uint64_t)status.stx_dev_major << 32 | status.stx_dev_minor;
    *inode = status.stx_ino;
    *born = (uint64_t)status.stx_btime.tv_sec * UINT64_C(1000000000) + status.stx_btime.tv_nsec;
    return 1;
}

static int is_liar(int fd) {
    uint64_t device, inode, born;
    return atomic_load(&liar.is_set) && identify(fd, &device, &inode, &born) && device == liar.device &&
           inode == liar.inode && born == liar.born;
}

static int sync_call(int (*real)(int), int fd) {
    if (!alluvium_page || !dir_length) return real(fd);
    if (is_liar(fd)) {
        count(&alluvium_page->traps[LIES], alluvium_page->traps[SYNCS].path);
        return 0;
    }
    if (caught(fd, LIES)) return 0;
    if (!caught(fd, SYNCS)) return real(fd);
    atomic_store(&liar.is_set, 0);
    if (identify(fd, &liar.device, &liar.inode, &liar.born)) atomic_store(&liar.is_set, 1);
    errno = EIO;
    return -1;
}
int fsync(int fd) { return sync_call(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_call(REAL(fdatasync), fd); }

/* Reads and writes are many: the real function is looked up once. */
#define FAULTY(which, name, parameters, arguments)                                                                     \
    ssize_t name parameters {                                                                                          \
        static __typeof__(&name) real;                                                                                 \
        if (!real) real = REAL(name);                                                                                  \
        if (!caught(fd, which)) return real arguments;                                                                 \
        errno = EIO;                                                                                                   \
        return -1;                                                                                                     \
    }

FAULTY(READS, read, (int fd, void *to, size_t length), (fd, to, length))
FAULTY(READS, pread, (int fd, void *to, size_t length, off_t at), (fd, to, length, at))
FAULTY(READS, pread64, (int fd, void *to, size_t length, off64_t at), (fd, to, length, at))
FAULTY(READS, readv, (int fd, const struct iovec *to, int count), (fd, to, count))
FAULTY(READS, preadv, (int fd, const struct iovec *to, int count, off_t at), (fd, to, count, at))
FAULTY(READS, preadv64, (int fd, const struct iovec *to, int count, off64_t at), (fd, to, count, at))
FAULTY(WRITES, write, (int fd, const void *from, size_t length), (fd, from, length))
FAULTY(WRITES, pwrite, (int fd, const void *from, size_t length, off_t at), (fd, from, length, at))
FAULTY(WRITES, pwrite64, (int fd, const void *from, size_t length, off64_t at), (fd, from, length, at))
FAULTY(WRITES, writev, (int fd, const struct iovec *from, int count), (fd, from, count))
FAULTY(WRITES, pwritev, (int fd, const struct iovec *from, int count, off_t at), (fd, from, count, at))
FAULTY(WRITES, pwritev64, (int fd, const struct iovec *from, int count, off64_t at), (fd, from, count, at))
