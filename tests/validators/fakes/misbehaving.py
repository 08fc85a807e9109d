"""Runtimes that misbehave in a worker: ONNX Runtime underneath, and one thing wrong.

Sessions that go wrong do so at images 9 pixels wide and at no others.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from anysize.validators.runtimes import Availability, LiteralOrt, Provenance
from anysize.validators.runtimes.ort_cpu import OrtCpu

WRONG_WIDTH = 9


class Session:
    def __init__(self, session, misbehave):
        self.session = session
        self.misbehave = misbehave

    def run(self, inputs):
        (images,) = inputs.values()
        if images.shape[3] == WRONG_WIDTH:
            answer = self.misbehave()
            if answer is not None:
                return answer
        return self.session.run(inputs)

    def provenance(self):
        return self.session.provenance()

    def close(self):
        self.session.close()


class Healthy:
    name = "fake"
    profile = "strict"
    device = "cpu"

    def availability(self):
        return Availability(is_available=True)

    def version(self):
        return "1.2"

    def load(self, model_path, *, threads):
        return Session(OrtCpu().load(model_path, threads=threads), self.misbehave)

    def misbehave(self):
        return None


class Aborts(Healthy):
    def misbehave(self):
        os.write(
            2,
            b"thread 'main' panicked: window too large\nstack backtrace:\n" + b" 0: main\n" * 1000,
        )
        os.abort()


class Exits(Healthy):
    def misbehave(self):
        os._exit(0)


class IsKilled(Healthy):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Healthy):
    def misbehave(self):
        time.sleep(60)


class Raises(Healthy):
    def misbehave(self):
        raise ValueError("bad\n  kernel")


class EatsMemory(Healthy):
    def misbehave(self):
        return {"logits": np.ones((1 << 40,), np.float32)}


class WrongShape(Healthy):
    def misbehave(self):
        return {"logits": np.zeros((3, 1, 7), np.float32)}


class Text(Healthy):
    def misbehave(self):
        return {"logits": np.array([["a"]])}


class NoMapping(Healthy):
    def misbehave(self):
        return [np.zeros(3)]


class Nothing(Healthy):
    def misbehave(self):
        return {}


class Talks(Healthy):
    def misbehave(self):
        print('{"outputs": [], "run_s": 0}')
        sys.stdout.flush()
        os.write(1, b"\n\n{}\n")


def reply_pipes():
    """The descriptors of pipes that are not this process's standard ones: replies go up one."""
    for descriptor in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                yield descriptor
        except OSError:
            continue


def say(words):
    for descriptor in reply_pipes():
        try:
            os.write(descriptor, words)
        except OSError:  # the one that commands come from
            continue


class Floods(Healthy):
    def misbehave(self):
        for _ in range(10_000):
            say(b"{}\n" * 1000)


class FloodsALine(Healthy):
    def misbehave(self):
        for _ in range(10_000):
            say(b"x" * 65536)


class SpeaksForItself(Healthy):
    def misbehave(self):
        say(b'{"outputs": [], "run_s": 0}\n')


class Repeats(Healthy):
    def misbehave(self):
        say(b'{"number": 1, "outputs": [], "run_s": 0}\n')


class SpoilsFiles(Healthy):
    """Answers with one number, and does `spoil` to the file that should hold it."""

    def misbehave(self):
        return {"logits": np.zeros((1, 1), np.float32)}

    def load(self, model_path, *, threads):
        save = np.save

        def save_and_spoil(path, array, **options):
            save(path, array, **options)
            if array.shape == (1, 1):
                self.spoil(Path(path))

        np.save = save_and_spoil
        return super().load(model_path, threads=threads)


class LiesAboutFiles(SpoilsFiles):
    def spoil(self, path):
        path.unlink()


class WritesNoArray(SpoilsFiles):
    def spoil(self, path):
        path.write_bytes(b"no array")


class WritesAShortArray(SpoilsFiles):
    def spoil(self, path):
        os.truncate(path, 100)


class AnswersATerabyte(SpoilsFiles):
    def spoil(self, path):
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1, 1 << 38))


class DividesByZero(Healthy):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGFPE)


class FollowsABadPointer(Healthy):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class ReadsStdin(Healthy):
    def misbehave(self):
        assert sys.stdin.read() == ""
        assert os.read(0, 100) == b""


class IsNoRuntime:
    pass


class HasAProfileOfItsOwn(Healthy):
    profile = "generous"


class AbortsAtLoad(Healthy):
    def load(self, model_path, *, threads):
        os.abort()


class HangsAtLoad(Healthy):
    def load(self, model_path, *, threads):
        time.sleep(60)


class RaisesAtLoad(Healthy):
    def load(self, model_path, *, threads):
        raise RuntimeError("no kernel\nfor Conv")


class AbortsWhenAsked(Healthy):
    def availability(self):
        os.abort()


class IsMissing(Healthy):
    def availability(self):
        return Availability(is_available=False, reason="No module named 'fake'")


class TellsProvenanceByDying(Healthy):
    def load(self, model_path, *, threads):
        session = super().load(model_path, threads=threads)
        session.provenance = lambda: Provenance() if session.session is None else os.abort()
        return session


class DividesByZeroInAnOriginal(DividesByZero):
    """Loads the plan of a reference, and not a file."""

    def load(self, model_path, *, threads):
        return Session(LiteralOrt().load(model_path, threads=threads), self.misbehave)


class AnswersAPipe(SpoilsFiles):
    """The reader of a pipe waits for somebody who writes."""

    def spoil(self, path):
        path.unlink()
        os.mkfifo(path)


class LeavesADaemon(Healthy):
    """Its child holds the pipe of the replies open, in a session of its own."""

    def misbehave(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        time.sleep(0.2)


class TidiesUp(Healthy):
    """Removes the folder that it was given, with all that lies in it."""

    def misbehave(self):
        shutil.rmtree(os.environ["TMPDIR"])


class FillsTheMemory(Healthy):
    """Keeps what it has been given; a new process has nothing."""

    kept: ClassVar[list] = []

    def misbehave(self):
        while True:
            self.kept.append(np.ones(1 << 24))


class AnswersTwice(Healthy):
    """Two outputs of one name."""

    def misbehave(self):
        class Twice(dict):
            def items(self):
                return [(name, array) for name, array in super().items() for _ in range(2)]

        return Twice(logits=np.zeros((1, 5), np.float32))


class SpoilsEveryInput(Healthy):
    """Writes into the files that every runtime is given."""

    def misbehave(self):
        command = sys._getframe(2).f_locals["command"]
        for path in command["inputs"].values():
            Path(path).write_bytes(b"meow")
