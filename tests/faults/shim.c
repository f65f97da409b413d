/* Faults of the kernel, for a process that this is preloaded into.
 *
 * The file that FAULTS names is mapped: whoever maps it too can turn faults on and off while the process runs, and read
 * how often they struck. Of calls on TCP sockets, each nth fails with an error, or moves no more than some bytes. The
 * clocks may go ahead or behind. Everything else is as ever.
 *
 * The extension sends broadcasts by system calls of its own, which no library stands before. A seccomp filter turns
 * those into signals, by their flags, and the handler makes the call, with a further flag that changes nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* shim.py knows this layout. */
struct fault {
    int32_t error_every; /* 0: never */
    int32_t error;       /* errno */
    int32_t error_left;  /* how often it still strikes; negative: for ever */
    int32_t short_every;
    int32_t short_bytes; /* the most that such a call moves */
    int32_t calls;
    int32_t errors;
    int32_t shorts;
};

enum { SENDING, RECEIVING, ACCEPTING, DIRECT, KINDS };

struct control {
    struct fault faults[KINDS];
    int32_t port; /* of the peer whose connections are struck; 0: all */
    int32_t hesitation; /* milliseconds that the main thread takes to begin waiting for a lock */
    int64_t realtime;  /* nanoseconds that are added */
    int64_t monotonic;
};

static struct control nothing;
static struct control *control = &nothing;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define STRUCK_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

static int is_tcp(int descriptor) {
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &size) || (domain != AF_INET && domain != AF_INET6)) return 0;
    size = sizeof type;
    if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM) return 0;
    if (!control->port) return 1;
    struct sockaddr_in peer;
    size = sizeof peer;
    return !getpeername(descriptor, (struct sockaddr *)&peer, &size) && ntohs(peer.sin_port) == control->port;
}

/* Return the bytes that a call may move, or -1 with errno where it is to fail. */
static ssize_t strike(int kind, int descriptor, size_t size) {
    struct fault *fault = &control->faults[kind];
    int saved = errno;
    if ((!fault->error_every && !fault->short_every) || (kind != ACCEPTING && !is_tcp(descriptor))) {
        errno = saved;
        return (ssize_t)size;
    }
    errno = saved;
    int32_t call = __atomic_add_fetch(&fault->calls, 1, __ATOMIC_RELAXED);
    if (fault->error_every && fault->error_left && call % fault->error_every == 0) {
        if (fault->error_left > 0) __atomic_sub_fetch(&fault->error_left, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&fault->errors, 1, __ATOMIC_RELAXED);
        errno = fault->error;
        return -1;
    }
    if (fault->short_every && call % fault->short_every == 0 && size > (size_t)fault->short_bytes) {
        __atomic_add_fetch(&fault->shorts, 1, __ATOMIC_RELAXED);
        return fault->short_bytes;
    }
    return (ssize_t)size;
}

static size_t total(const struct iovec *parts, size_t count) {
    size_t size = 0;
    for (size_t at = 0; at < count; at++) size += parts[at].iov_len;
    return size;
}

/* ---- sending */

ssize_t send(int descriptor, const void *data, size_t size, int flags) {
    REAL(send);
    ssize_t most = strike(SENDING, descriptor, size);
    return most < 0 ? -1 : real(descriptor, data, (size_t)most, flags);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write);
    ssize_t most = strike(SENDING, descriptor, size);
    return most < 0 ? -1 : real(descriptor, data, (size_t)most);
}

/* What is cut short leaves in one piece: the first bytes of the first part that has any. */
static ssize_t write_parts(int descriptor, const struct iovec *parts, size_t count, size_t most) {
    for (size_t at = 0; at < count; at++) {
        if (!parts[at].iov_len) continue;
        size_t size = parts[at].iov_len < most ? parts[at].iov_len : most;
        return syscall(SYS_write, descriptor, parts[at].iov_base, size);
    }
    return 0;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    size_t size = total(parts, (size_t)count);
    ssize_t most = strike(SENDING, descriptor, size);
    if (most < 0) return -1;
    return (size_t)most < size ? write_parts(descriptor, parts, (size_t)count, (size_t)most) : real(descriptor, parts, count);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    size_t size = total(message->msg_iov, message->msg_iovlen);
    ssize_t most = strike(SENDING, descriptor, size);
    if (most < 0) return -1;
    if ((size_t)most < size) return write_parts(descriptor, message->msg_iov, message->msg_iovlen, (size_t)most);
    return real(descriptor, message, flags);
}

/* ---- receiving */

ssize_t recv(int descriptor, void *data, size_t size, int flags) {
    REAL(recv);
    ssize_t most = strike(RECEIVING, descriptor, size);
    return most < 0 ? -1 : real(descriptor, data, (size_t)most, flags);
}

ssize_t read(int descriptor, void *data, size_t size) {
    REAL(read);
    ssize_t most = strike(RECEIVING, descriptor, size);
    return most < 0 ? -1 : real(descriptor, data, (size_t)most);
}

/* ---- accepting: both loops call accept4 */

int accept4(int descriptor, struct sockaddr *address, socklen_t *size, int flags) {
    REAL(accept4);
    return strike(ACCEPTING, descriptor, 0) < 0 ? -1 : real(descriptor, address, size, flags);
}

/* ---- clocks */

static void add(struct timespec *time, int64_t nanoseconds) {
    int64_t fraction = time->tv_nsec + nanoseconds % 1000000000;
    time->tv_sec += nanoseconds / 1000000000;
    if (fraction < 0) time->tv_sec--, fraction += 1000000000;
    if (fraction >= 1000000000) time->tv_sec++, fraction -= 1000000000;
    time->tv_nsec = fraction;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    if (result) return result;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) add(time, control->realtime);
    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) add(time, control->monotonic);
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

/* ---- locks: CPython's are semaphores */

/* What comes in that time comes before the waiting: a signal is over then. */
static void hesitate(void) {
    if (!control->hesitation || getpid() != syscall(SYS_gettid)) return;
    struct timespec time = {control->hesitation / 1000, control->hesitation % 1000 * 1000000};
    nanosleep(&time, NULL);
}

int sem_wait(sem_t *semaphore) {
    REAL(sem_wait);
    hesitate();
    return real(semaphore);
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *end) {
    REAL(sem_clockwait);
    hesitate();
    return real(semaphore, clock, end);
}

/* ---- the extension's own system calls */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ARGUMENT(context, number) \
    ((context)->uc_mcontext.gregs[(int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[number]])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ARGUMENT(context, number) ((context)->uc_mcontext.regs[number])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#endif

#ifdef ARCHITECTURE
static void direct(int signal, siginfo_t *info, void *opaque) {
    (void)signal, (void)info;
    ucontext_t *context = opaque;
    int saved = errno;
    ssize_t most = strike(DIRECT, (int)ARGUMENT(context, 0), (size_t)ARGUMENT(context, 2));
    long result = -1;
    if (most >= 0)
        result = syscall(SYS_sendto, ARGUMENT(context, 0), ARGUMENT(context, 1), most, STRUCK_FLAGS | MSG_CONFIRM, NULL, 0);
    RESULT(context) = result < 0 ? -errno : result;
    errno = saved;
}

static void trap(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STRUCK_FLAGS, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct sigaction action = {.sa_sigaction = direct, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    sigaction(SIGSYS, &action, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(99);
}
#endif

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS");
    if (!path) return;
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (descriptor < 0 || found == MAP_FAILED) _exit(98);
    close(descriptor);
    control = found;
#ifdef ARCHITECTURE
    if (getenv("FAULTS_DIRECT")) trap();
#endif
}
