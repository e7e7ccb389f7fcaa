# Tries to get out of a container. Each attempt prints a line: "refused NAME" or "ESCAPED NAME HOW".
import ctypes, errno, glob, os, platform, resource, socket, struct, subprocess, tempfile

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"


def call(number, *arguments):
    """Makes a system call; one that is refused raises."""
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments] + [ctypes.c_long(0)] * 6
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments[:6])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return f"gives {result}"


def filtered(number):
    """Whether the filter lets a call through to the kernel, which may then dislike its arguments."""
    try:
        return call(number, 0, 0, 0, 0, 0, 0)
    except OSError as err:
        if err.errno in (errno.EPERM, errno.ENOSYS):
            raise
        return f"reaches the kernel: {err}"


def child(function):
    """Does it in a process of its own, for what would change this one."""
    def run():
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, f"yes {function()}".encode())
            except BaseException as err:
                os.write(write, f"no {err}".encode())
            os._exit(0)
        os.close(write)
        said = os.read(read, 4096).decode()
        os.waitpid(pid, 0)
        if not said.startswith("yes"):
            raise PermissionError(said)
        return said
    return run


def reads(path):
    with open(path, "rb", buffering=0) as file:
        # Masked by an empty file is as good as refused.
        if not (found := file.read(64)):
            raise PermissionError("it is empty")
        return f"reads {found[:16]!r}"


def writes(path, text):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
    return f"writes {path}"


def makes_device(kind, major, minor):
    path = os.path.join(tempfile.mkdtemp(), "device")
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    try:
        return reads(path)
    finally:
        os.unlink(path)


def first(pattern, name):
    found = glob.glob(pattern)
    if not found:
        raise FileNotFoundError(name)
    return found[0]


def talks_to(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return f"connects to {path!r}"


def abstract_sockets():
    names = [line.split()[-1] for line in open("/proc/net/unix") if " @" in line]
    if not names:
        raise FileNotFoundError("no abstract sockets")
    return f"sees {names}"


def foreign_processes():
    names = {open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit() and os.path.exists(f"/proc/{pid}/comm")}
    foreign = names & {"dockerd", "containerd", "systemd", "init", "atelier", "postgres", "containerd-shim"}
    if not foreign:
        raise ProcessLookupError("only ours")
    return f"sees {foreign}"


def raises_capability():
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, "little") + (0).to_bytes(4, "little"), 8)
    every = (0xFFFFFFFF).to_bytes(4, "little")
    data = ctypes.create_string_buffer((every * 3) * 2, 24)
    return call(126 if X86 else 91, header, data)


def setuid_program_gains():
    # Root's own rights cannot come back through a program with the setuid bit or file capabilities.
    status = open("/proc/self/status").read()
    if "NoNewPrivs:\t1" in status:
        raise PermissionError("no new privileges")
    return "may gain privileges"


def raises_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    return "raises a hard limit"


def old_calls():
    """The 32-bit entry has its own numbers, which a filter of 64-bit ones would not see."""
    if not X86:
        raise NotImplementedError("another architecture")
    source = 'int main(void){int r;__asm__ volatile("int $0x80":"=a"(r):"a"(20):"memory");return r>0?0:1;}'
    directory = tempfile.mkdtemp()
    subprocess.run(["gcc", "-x", "c", "-", "-o", f"{directory}/old"], input=source.encode(), check=True)
    if subprocess.run([f"{directory}/old"]).returncode != 0:
        raise PermissionError("killed or refused")
    return "makes 32-bit calls"


def new_namespace(flag):
    return child(lambda: call(272 if X86 else 97, flag))


def clone_namespace(flag):
    # SIGCHLD with the flag: a child in a new namespace.
    def clone():
        pid = libc.syscall(ctypes.c_long(56 if X86 else 220), ctypes.c_long(flag | 17), 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid < 0:
            raise OSError(ctypes.get_errno(), "clone")
        os.waitpid(pid, 0)
        return "clones into it"
    return child(clone)


def mounts(source, target, kind, flags=0, data=None):
    def mount():
        ctypes.set_errno(0)
        if libc.mount(source, target, kind, ctypes.c_ulong(flags), data) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        return f"mounts {target!r}"
    return mount


def raw_socket(family, kind, protocol=0):
    def open_it():
        socket.socket(family, kind, protocol).close()
        return "opens it"
    return open_it


def asks_audit():
    with socket.socket(16, socket.SOCK_RAW, 9) as netlink:
        netlink.settimeout(2)
        netlink.send(struct.pack("=IHHII", 16, 1000, 5, 1, 0))
        answer = netlink.recv(4096)
    kind, status = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
    if kind == 2 and status < 0:
        raise OSError(-status, "audit")
    return f"is answered {answer!r}"


NUMBERS = {
    # name: (x86_64, aarch64)
    "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "pivot_root": (155, 41), "fsopen": (430, 430), "fsmount": (432, 432),
    "open_tree": (428, 428), "move_mount": (429, 429), "mount_setattr": (442, 442), "fspick": (433, 433),
    "swapon": (167, 224), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "clone3": (435, 435),
    "umount2": (166, 39), "setns": (308, 268), "lookup_dcookie": (212, 18), "pidfd_getfd": (438, 438),
}
if X86:
    NUMBERS |= {"iopl": (172, 0), "ioperm": (173, 0), "create_module": (174, 0), "nfsservctl": (180, 0)}

NEW = {"user": 0x10000000, "mount": 0x00020000, "network": 0x40000000, "process": 0x20000000, "ipc": 0x08000000,
       "cgroup": 0x02000000, "uts": 0x04000000}

CGROUPS = "/sys/fs/cgroup"

ATTEMPTS = {
    **{f"call {name}": (lambda number: lambda: filtered(number))(numbers[0 if X86 else 1])
       for name, numbers in NUMBERS.items()},
    **{f"unshare {name} namespace": new_namespace(flag) for name, flag in NEW.items()},
    **{f"clone into a new {name} namespace": clone_namespace(flag) for name, flag in NEW.items()},
    **{f"enter {name} namespace of process 1": (lambda name: child(lambda: call(308 if X86 else 268, os.open(f"/proc/1/ns/{name}", os.O_RDONLY), 0)))(name)
       for name in ("mnt", "net", "pid", "user", "cgroup")},
    "mount tmpfs": mounts(b"none", b"/mnt", b"tmpfs"),
    "mount proc": mounts(b"none", b"/mnt", b"proc"),
    "mount sysfs": mounts(b"none", b"/mnt", b"sysfs"),
    "mount a cgroup": mounts(b"none", b"/mnt", b"cgroup", 0, b"memory"),
    "mount cgroup2": mounts(b"none", b"/mnt", b"cgroup2"),
    "mount an overlay": mounts(b"none", b"/mnt", b"overlay", 0, b"lowerdir=/etc:/usr"),
    "bind a directory": mounts(b"/etc", b"/mnt", None, 4096),
    "remount /proc/sys writable": mounts(None, b"/proc/sys", None, 4096 | 32),
    "remount the daemon writable": mounts(None, b"/.atelier/guestd", None, 4096 | 32),
    "unmount the mask of /proc/kcore": lambda: call(166 if X86 else 39, ctypes.c_char_p(b"/proc/kcore"), 2),
    "chroot": child(lambda: os.chroot("/proc/1/root")),
    "talk to the engine": lambda: talks_to("/var/run/docker.sock"),
    "talk to the engine in /run": lambda: talks_to("/run/docker.sock"),
    "talk to containerd": lambda: talks_to("/run/containerd/containerd.sock"),
    "see abstract sockets of the host": abstract_sockets,
    "see processes of the host": foreign_processes,
    "make the disk as a device": lambda: makes_device(0o060000, 254, 0),
    "make another disk as a device": lambda: makes_device(0o060000, 8, 0),
    "make /dev/mem": lambda: makes_device(0o020000, 1, 1),
    "make /dev/kmsg": lambda: makes_device(0o020000, 1, 11),
    **{f"read {path}": (lambda path: lambda: reads(path))(path) for path in (
        "/dev/mem", "/dev/kmem", "/dev/port", "/dev/vda", "/dev/sda", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/loop0",
        "/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware/dmi/tables/DMI",
        "/proc/1/mem", "/sys/kernel/debug/tracing/trace", "/sys/kernel/security/lockdown")},
    **{f"write {path}": (lambda path, text: lambda: writes(path, text))(path, text) for path, text in {
        "/proc/sys/kernel/core_pattern": b"|/workspace/x", "/proc/sys/kernel/modprobe": b"/workspace/x",
        "/proc/sys/kernel/hostname": b"x", "/proc/sys/vm/overcommit_memory": b"0", "/proc/sys/fs/binfmt_misc/register": b"x",
        "/proc/sys/kernel/yama/ptrace_scope": b"0", "/proc/sys/net/ipv4/ip_forward": b"1", "/proc/sysrq-trigger": b"h",
        "/sys/kernel/uevent_helper": b"/workspace/x", "/sys/kernel/mm/transparent_hugepage/enabled": b"never",
        "/proc/self/oom_score_adj": b"-1000", "/proc/self/attr/current": b"unconfined", "/proc/irq/default_smp_affinity": b"1",
        "/.atelier/guestd": b"x", "/proc/1/exe": b"x"}.items()},
    "write a release agent": lambda: writes(first(f"{CGROUPS}/*/release_agent", "release_agent"), b"/workspace/x"),
    "be notified of a release": lambda: writes(first(f"{CGROUPS}/*/notify_on_release", "notify_on_release"), b"1"),
    "allow all devices": lambda: writes(f"{CGROUPS}/devices/devices.allow", b"a *:* rwm"),
    "raise the memory limit": lambda: writes(first(f"{CGROUPS}/memory*/memory.limit_in_bytes", "limit"), b"-1"),
    "raise memory.max": lambda: writes(f"{CGROUPS}/memory.max", b"max"),
    "raise the process limit": lambda: writes(first(f"{CGROUPS}/pids*/pids.max", "limit"), b"max"),
    "make a cgroup": lambda: os.mkdir(first(f"{CGROUPS}/*", "cgroups") + "/escape"),
    "raise capabilities": raises_capability,
    "gain by setuid": setuid_program_gains,
    "raise a hard limit": raises_open_files,
    "be more important than others": lambda: os.nice(-5),
    "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "set the clock": lambda: __import__("time").clock_settime(0, 0),
    "set the host's name": lambda: socket.sethostname("x"),
    "raw IP": raw_socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "raw packets": raw_socket(17, socket.SOCK_RAW, 768),
    "virtual machine sockets": raw_socket(40, socket.SOCK_STREAM),
    "kernel ciphers": raw_socket(38, 5),
    "ask the audit system": asks_audit,
    "32-bit calls": old_calls,
}

for name, attempt in ATTEMPTS.items():
    try:
        print(f"ESCAPED {name}: {attempt()}")
    except Exception as err:
        print(f"refused {name}: {type(err).__name__} {errno.errorcode.get(getattr(err, 'errno', None), '')}")
