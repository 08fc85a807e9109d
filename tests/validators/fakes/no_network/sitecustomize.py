"""Imported by every interpreter that finds it: the kernel ends a process that opens a connection.

A filter of system calls (seccomp) is inherited by all that a process starts and cannot be lifted,
so it holds for native code and for other programs, too. Sockets of other families stay allowed.
"""

from __future__ import annotations

import ctypes
import platform
import struct

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
INTERNET = (2, 10)  # AF_INET, AF_INET6
KILL, ALLOW = 0x80000000, 0x7FFF0000
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2


def instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)


def forbid() -> None:
    program = b"".join(
        (
            instruction(LOAD, NUMBER),
            instruction(IF_EQUAL, SOCKET, 0, 4),
            instruction(LOAD, FIRST_ARGUMENT),
            instruction(IF_EQUAL, INTERNET[0], 1, 0),
            instruction(IF_EQUAL, INTERNET[1], 0, 1),
            instruction(RETURN, KILL),
            instruction(RETURN, ALLOW),
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, header, 0, 0)):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), "no filter of system calls can be set here")


forbid()
