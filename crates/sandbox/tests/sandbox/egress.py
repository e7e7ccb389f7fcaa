# Tries to reach addresses, one "ADDRESS PORT" a line, over TCP and UDP. Prints those that take a connection.
import concurrent.futures, socket, sys


def attempt(line):
    address, port = line.split()
    reached = []
    # A v4-mapped address is one more way to write a private one.
    forms = [address] + ([f"::ffff:{address}"] if ":" not in address else [])
    for form in forms:
        try:
            found = socket.getaddrinfo(form, int(port), type=socket.SOCK_STREAM)
        except OSError:
            continue
        for family, kind, _, _, target in found:
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as udp:
                    for _ in range(3):
                        udp.sendto(b"canary", target)
            except OSError:
                pass
            try:
                with socket.socket(family, kind) as tcp:
                    tcp.settimeout(2)
                    tcp.connect(target)
                    reached.append(form)
            except OSError:
                pass
    return reached


with concurrent.futures.ThreadPoolExecutor(32) as pool:
    lines = [line for line in sys.stdin.read().splitlines() if line]
    reached = [form for forms in pool.map(attempt, lines) for form in forms]
print(f"tried {len(lines)}")
for form in reached:
    print(f"reached {form}")
