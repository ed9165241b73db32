/* Makes the system calls of a process fail or be its last, by number.
 *
 * Loaded with LD_PRELOAD. It looks only at calls that change files below ALLUVIUM_FAULT_DIR and counts them
 * over the whole process. ALLUVIUM_FAULT says what happens:
 *   count          nothing; at exit the number of calls is written to ALLUVIUM_FAULT_COUNT
 *   kill:N         SIGKILL; N = 2k before call k is made, N = 2k+1 after it
 *   sync-error:K   the K-th sync (from zero) fails with EIO, later ones "succeed": what Linux does; the path
 *                  is said on standard output at that moment, as `failed PATH`
 *   full           while the file ALLUVIUM_FAULT_CONTROL exists, calls that need space fail with ENOSPC and
 *                  statvfs finds none, after as many such calls as the file says; a write into space that a
 *                  file has already is no such call
 *   read-only      calls that change files fail with EROFS, as on a file system that is mounted so
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls, syncs, taken;
static const char *dir, *control;
static size_t dir_length;
static long kill_at = -1, fail_sync = -1;
static int full, read_only;

__attribute__((constructor)) static void start(void) {
    const char *mode = getenv("ALLUVIUM_FAULT");
    dir = getenv("ALLUVIUM_FAULT_DIR");
    control = getenv("ALLUVIUM_FAULT_CONTROL");
    dir_length = dir ? strlen(dir) : 0;
    if (!mode) return;
    if (!strncmp(mode, "kill:", 5)) kill_at = atol(mode + 5);
    if (!strncmp(mode, "sync-error:", 11)) fail_sync = atol(mode + 11);
    full = !strcmp(mode, "full");
    read_only = !strcmp(mode, "read-only");
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("ALLUVIUM_FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld %ld\n", atomic_load(&calls), atomic_load(&syncs));
    fclose(file);
}

static int watched_path(const char *path) {
    return dir_length && path && !strncmp(path, dir, dir_length);
}

/* Finds the path of an open file; says whether there is one. */
static int path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return 1;
}

static int watched(int fd) {
    char path[PATH_MAX];
    return dir_length && path_of(fd, path) && watched_path(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts a call; returns its number, or -1 when nobody watches it. */
static long before(int is_watched) {
    if (!is_watched) return -1;
    long number = atomic_fetch_add(&calls, 1);
    if (kill_at == 2 * number) die();
    return number;
}

static void after(long number) {
    if (number >= 0 && kill_at == 2 * number + 1) die();
}

/* Whether there is no space: of what the control file leaves, a call that takes some has one less. */
static int is_full(int is_watched, int takes) {
    if (!full || !is_watched || !control) return 0;
    FILE *file = fopen(control, "r");
    if (!file) {
        atomic_store(&taken, 0);
        return 0;
    }
    long left = 0;
    if (fscanf(file, "%ld", &left) != 1) left = 0;
    fclose(file);
    return (takes ? atomic_fetch_add(&taken, 1) : atomic_load(&taken)) >= left;
}

/* Whether a watched call is refused, and with which error. */
static int refused(int is_watched, int needs_space) {
    if (read_only && is_watched) {
        errno = EROFS;
        return 1;
    }
    if (!needs_space || !is_full(is_watched, 1)) return 0;
    errno = ENOSPC;
    return 1;
}

/* Whether a write up to `to` needs space that the file does not have. */
static int grows(int fd, off_t to) {
    struct stat status;
    if (fstat(fd, &status)) return 0;
    return to > status.st_size || to > (off_t)status.st_blocks * 512;
}

/* Where a write without a position begins. */
static off_t position(int fd) {
    struct stat status;
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    return appends && !fstat(fd, &status) ? status.st_size : lseek(fd, 0, SEEK_CUR);
}

static off_t end_of(off_t from, const struct iovec *v, int n) {
    for (int i = 0; i < n; i++) from += v[i].iov_len;
    return from;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BY_FD(type, name, space, params, ...)                                  \
    type name params {                                                         \
        int seen = watched(fd);                                                \
        if (refused(seen, seen && (space))) return -1;                         \
        long number = before(seen);                                            \
        type result = REAL(name)(__VA_ARGS__);                                 \
        after(number);                                                         \
        return result;                                                         \
    }
#define BY_PATH(name, space, params, path, ...)                                \
    int name params {                                                          \
        int seen = watched_path(path);                                         \
        if (refused(seen, space)) return -1;                                   \
        long number = before(seen);                                            \
        int result = REAL(name)(__VA_ARGS__);                                  \
        after(number);                                                         \
        return result;                                                         \
    }

BY_FD(ssize_t, write, grows(fd, position(fd) + n), (int fd, const void *b, size_t n), fd, b, n)
BY_FD(ssize_t, pwrite, grows(fd, o + n), (int fd, const void *b, size_t n, off_t o), fd, b, n, o)
BY_FD(ssize_t, pwrite64, grows(fd, o + n), (int fd, const void *b, size_t n, off64_t o), fd, b, n, o)
BY_FD(ssize_t, writev, grows(fd, end_of(position(fd), v, n)), (int fd, const struct iovec *v, int n), fd, v, n)
BY_FD(ssize_t, pwritev, grows(fd, end_of(o, v, n)), (int fd, const struct iovec *v, int n, off_t o), fd, v, n, o)
BY_FD(ssize_t, pwritev64, grows(fd, end_of(o, v, n)), (int fd, const struct iovec *v, int n, off64_t o), fd, v, n, o)
BY_FD(int, ftruncate, grows(fd, n), (int fd, off_t n), fd, n)
BY_FD(int, ftruncate64, grows(fd, n), (int fd, off64_t n), fd, n)
BY_FD(int, fallocate, 1, (int fd, int m, off_t o, off_t n), fd, m, o, n)
BY_FD(int, fallocate64, 1, (int fd, int m, off64_t o, off64_t n), fd, m, o, n)

/* One write, so that it stands between the lines of the process and not within one. */
static void say_failed(int fd) {
    char path[PATH_MAX], line[PATH_MAX + 16];
    if (!path_of(fd, path)) path[0] = 0;
    int length = snprintf(line, sizeof line, "failed %s\n", path);
    if (REAL(write)(STDOUT_FILENO, line, length) != length) die();
}

static int sync_call(int (*real)(int), int fd) {
    int seen = watched(fd);
    long number = before(seen);
    if (seen && atomic_fetch_add(&syncs, 1) == fail_sync) {
        say_failed(fd);
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    after(number);
    return result;
}
int fsync(int fd) { return sync_call(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_call(REAL(fdatasync), fd); }

BY_PATH(rename, 0, (const char *a, const char *b), b, a, b)
BY_PATH(renameat, 0, (int x, const char *a, int y, const char *b), b, x, a, y, b)
BY_PATH(link, 1, (const char *a, const char *b), b, a, b)
BY_PATH(linkat, 1, (int x, const char *a, int y, const char *b, int f), b, x, a, y, b, f)
BY_PATH(unlink, 0, (const char *a), a, a)
BY_PATH(unlinkat, 0, (int x, const char *a, int f), a, x, a, f)

/* A directory that is there is EEXIST, also on a disk that takes no more: nothing would change. */
int mkdir(const char *a, mode_t m) {
    struct stat status;
    int seen = watched_path(a);
    if (stat(a, &status) && refused(seen, 1)) return -1;
    long number = before(seen);
    int result = REAL(mkdir)(a, m);
    after(number);
    return result;
}

#define OPEN(name, params, ...)                                                \
    int name params {                                                          \
        mode_t mode = 0;                                                       \
        if (flags & (O_CREAT | O_TMPFILE)) {                                   \
            va_list rest;                                                      \
            va_start(rest, flags);                                             \
            mode = va_arg(rest, mode_t);                                       \
            va_end(rest);                                                      \
        }                                                                      \
        int changes = flags & (read_only ? O_CREAT | O_WRONLY | O_RDWR : O_CREAT); \
        int seen = changes && watched_path(path);                              \
        if (refused(seen, seen && access(path, F_OK))) return -1;              \
        long number = before(seen);                                            \
        int result = REAL(name)(__VA_ARGS__);                                  \
        after(number);                                                         \
        return result;                                                         \
    }
OPEN(open, (const char *path, int flags, ...), path, flags, mode)
OPEN(open64, (const char *path, int flags, ...), path, flags, mode)
OPEN(openat, (int at, const char *path, int flags, ...), at, path, flags, mode)
OPEN(openat64, (int at, const char *path, int flags, ...), at, path, flags, mode)

#define STATVFS(name)                                                          \
    int name(const char *path, struct name *status) {                          \
        int result = REAL_STATVFS(name)(path, status);                         \
        if (!result && is_full(watched_path(path), 0)) status->f_bavail = 0;      \
        return result;                                                         \
    }
#define REAL_STATVFS(name) ((int (*)(const char *, struct name *))dlsym(RTLD_NEXT, #name))
STATVFS(statvfs)
STATVFS(statvfs64)
