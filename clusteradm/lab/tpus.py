"""Edge TPUs of one virtual board: a process behind each, and what the board's kernel shows of it.

A process outlives a reboot of the board, as the state of a chip does. Values of faults are those that the gasket and
apex drivers show (google/gasket-driver, src/gasket_core.c and src/apex_driver.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from clusteradm.lab import apex, hardware, pci, usb
from clusteradm.lab.machine import LabError
from clusteradm.lab.topology import Accelerator, Board, Tpu


class VirtualTpus:
    """`shared`: the board's folder that it sees as /run/clusteradm-lab. `view`: the tree of `hardware` in it.

    Names of faults are those of `fault_kinds.FAULTS`.
    """

    def __init__(self, board: Board, shared: Path) -> None:
        self._board = board
        self.view = shared / "hardware"
        self._sockets = shared / "tpu"
        self._processes: dict[int | str, asyncio.subprocess.Process] = {}

    async def boot(self, faults: Mapping[int, Collection[str]]) -> None:
        """Write the view afresh and start the processes that do not run. `faults`: TPU number -> its lasting faults."""
        hardware.make(self.view, self._board)
        self._sockets.mkdir(exist_ok=True)
        for tpu in self._board.tpus:
            if tpu.number not in self._processes:
                await self._start(tpu)
            if faults[tpu.number]:
                await self.unplug(tpu)
                await self.plug(tpu, faults[tpu.number])
        for accelerator in self._board.usb:
            # A loss of power takes its firmware, a reboot of the board does not.
            if accelerator.name in self._processes:
                usb.load(usb.folder_of(self.view, accelerator))
            else:
                await self._begin_usb(accelerator)

    def on_bus(self, tpu: Tpu) -> bool:
        return pci.folder_of(self.view, tpu).exists()

    def bound(self, tpu: Tpu) -> bool:
        """Whether the driver has made a device of the TPU."""
        return apex.folder_of(self.view, tpu).exists()

    async def plug(self, tpu: Tpu, faults: Collection[str]) -> None:
        """Put the TPU on the bus with its lasting faults; the driver binds to it unless it is wedged."""
        if "absent" in faults:
            return
        answers = "wedged" not in faults
        await self._start(tpu)
        hardware.plug(self.view, self._board, tpu, driver=answers)
        if not answers:
            self.wedge(tpu)
            return
        if "hot" in faults:
            self.heat(tpu)
        if "lamed" in faults:
            self.lame(tpu)

    async def unplug(self, tpu: Tpu) -> None:
        """Take the TPU off the bus; a process that has it open loses it."""
        process = self._processes.pop(tpu.number, None)
        if process is not None:
            process.kill()
            await process.wait()
        hardware.unplug(self.view, self._board, tpu)

    async def authorize(self, accelerator: Accelerator, is_used: bool) -> None:
        """Let the kernel use a USB Accelerator, or take it from whoever has it open; it keeps its firmware."""
        process = self._processes.pop(accelerator.name, None)
        if process is not None:
            process.kill()
            await process.wait()
        if is_used:
            await self._begin_usb(accelerator)
        usb.configure(usb.folder_of(self.view, accelerator), is_used)

    def end(self) -> None:
        """Kill all processes, as a loss of power does."""
        for process in self._processes.values():
            process.kill()
        self._processes.clear()

    def owner(self, tpu: Tpu) -> str:
        """Process id (on the board) that has the TPU open; "0" if none has."""
        return (apex.folder_of(self.view, tpu) / "device_owner").read_text(encoding="ascii").strip()

    # ---- faults ----

    def heat(self, tpu: Tpu) -> None:
        apex.set_temperature(self.view, tpu, apex.HOT)

    def cool(self, tpu: Tpu) -> None:
        with contextlib.suppress(FileNotFoundError):  # removed from the bus meanwhile
            apex.set_temperature(self.view, tpu, apex.usual(self._board, tpu))

    def wedge(self, tpu: Tpu) -> None:
        self._halt(tpu)
        with contextlib.suppress(FileNotFoundError):  # found by a rescan: it has no driver
            apex.set_temperature(self.view, tpu, apex.OFF_BUS)

    def lame(self, tpu: Tpu) -> None:
        """Take its interrupts away."""
        self._halt(tpu)
        hardware.lame(self.view, tpu)

    def _halt(self, tpu: Tpu) -> None:
        """Stop the process: opening the TPU waits for the driver's 12 s, using it waits for ever."""
        process = self._processes.get(tpu.number)
        if process is None:
            raise LabError(f"{self._board.name}: apex_{tpu.number} is not on the bus, or without power")
        process.send_signal(signal.SIGSTOP)

    async def _start(self, tpu: Tpu) -> None:
        """Start the process behind a TPU; returns when it can be opened."""
        await self._begin(tpu.number, f"apex_{tpu.number}", apex.folder_of(self.view, tpu))

    async def _begin_usb(self, accelerator: Accelerator) -> None:
        await self._begin(accelerator.name, f"usb-{accelerator.name}", usb.folder_of(self.view, accelerator))

    async def _begin(self, key: int | str, name: str, folder: Path) -> None:
        socket_file = self._sockets / f"{name}.sock"
        socket_file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clusteradm.lab.device"),
            *(str(socket_file), str(folder)),
            stdin=asyncio.subprocess.DEVNULL,
        )
        self._processes[key] = process
        while not socket_file.exists():
            if process.returncode is not None:
                raise LabError(f"{self._board.name}: the process of {name} ended at once")
            await asyncio.sleep(0.02)
