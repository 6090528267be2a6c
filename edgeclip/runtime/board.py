"""What the board says of itself in sysfs: temperatures, whether it throttles, how much power it takes.

Thermal zones and cooling devices: Documentation/driver-api/thermal/sysfs-api.rst of the kernel. Power: hwmon sensors
(Documentation/hwmon/sysfs-interface.rst), among them the INA3221 of Jetson boards, whose rails are labelled.
Every reading is optional; a file that is missing or that a driver refuses to give is no reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
COLDEST_C, HOTTEST_C = -40.0, 150.0  # beyond it a sensor is off, not cold
WHOLE_BOARD = ("VDD_IN", "VIN_SYS_5V0", "POM_5V_IN", "VIN")  # rails that all others are behind; Jetson's names
FANS = ("fan", "pwm")


@dataclass(frozen=True, slots=True)
class Zone:
    """A thermal zone. passive_c: where the kernel begins to throttle for its sake; None where it does not say."""

    name: str
    temperature_c: float
    passive_c: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """zones: hottest first. throttled: cooling devices, fans apart, that are at work. power_w: of the whole board."""

    zones: tuple[Zone, ...] = ()
    throttled: tuple[str, ...] = ()
    power_w: float | None = None

    @property
    def hottest(self) -> Zone | None:
        return self.zones[0] if self.zones else None


class Board:
    """Finds the files once; read() then reads them. sys: the root of sysfs."""

    def __init__(self, sys: Path = SYS) -> None:
        self._zones = [
            (_text(zone / "type") or zone.name, zone / "temp", _passive_c(zone))
            for zone in _found(sys / "class/thermal", "thermal_zone*")
        ]
        self._coolers = [
            (name, cooler / "cur_state")
            for cooler in _found(sys / "class/thermal", "cooling_device*")
            if not any(fan in (name := _text(cooler / "type") or cooler.name).lower() for fan in FANS)
        ]
        self._rails = _rails(sys)

    @property
    def can_be_read(self) -> bool:
        return bool(self._zones or self._rails or self._coolers)

    def read(self) -> Reading:
        zones = []
        for name, path, passive_c in self._zones:
            millidegrees = _number(path)
            if millidegrees is not None and COLDEST_C < millidegrees / 1e3 < HOTTEST_C:
                zones.append(Zone(name, millidegrees / 1e3, passive_c))
        zones.sort(key=lambda zone: -zone.temperature_c)
        throttled = tuple(name for name, path in self._coolers if (_number(path) or 0) > 0)
        watts = [rail.watts() for rail in self._rails]
        known = [power_w for power_w in watts if power_w is not None]
        return Reading(tuple(zones), throttled, sum(known) if known else None)


@dataclass(frozen=True, slots=True)
class Rail:
    """A supply: either its power in microwatts, or voltage and current in thousandths."""

    name: str
    power: Path | None = None
    voltage: Path | None = None
    current: Path | None = None

    def watts(self) -> float | None:
        if self.power is not None:
            microwatts = _number(self.power)
            return None if microwatts is None else microwatts / 1e6
        if self.voltage is None or self.current is None:
            return None
        millivolts, milliamperes = _number(self.voltage), _number(self.current)
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6


def _rails(sys: Path) -> list[Rail]:
    """The rail that feeds the whole board where there is one, else all that are measured."""
    rails = [rail for sensor in _found(sys / "class/hwmon", "hwmon*") for rail in _rails_of(sensor)]
    rails += [
        rail for device in _found(sys / "bus/i2c/drivers/ina3221x", "*/iio:device*") for rail in _old_rails(device)
    ]
    for name in WHOLE_BOARD:
        whole = [rail for rail in rails if rail.name.upper() == name]
        if whole:
            return whole[:1]
    return rails


def _rails_of(sensor: Path) -> Iterator[Rail]:
    for label in sorted(sensor.glob("in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        voltage, current = sensor / f"in{number}_input", sensor / f"curr{number}_input"
        if voltage.exists() and current.exists() and not (_text(label) or "sum").lower().startswith("sum"):
            yield Rail(_text(label) or label.name, voltage=voltage, current=current)
    for power in sorted(sensor.glob("power*_input")):
        number = power.name.removeprefix("power").removesuffix("_input")
        yield Rail(_text(sensor / f"power{number}_label") or f"{sensor.name} power{number}", power=power)


def _old_rails(device: Path) -> Iterator[Rail]:
    """JetPack 4's INA3221 driver: milliwatts would need scaling, so voltage and current are read."""
    for label in sorted(device.glob("rail_name_*")):
        number = label.name.rpartition("_")[2]
        voltage, current = device / f"in_voltage{number}_input", device / f"in_current{number}_input"
        if voltage.exists() and current.exists():
            yield Rail(_text(label) or label.name, voltage=voltage, current=current)


def _passive_c(zone: Path) -> float | None:
    found = []
    for kind in zone.glob("trip_point_*_type"):
        if _text(kind) == "passive":
            millidegrees = _number(kind.with_name(kind.name.replace("_type", "_temp")))
            if millidegrees is not None and 0.0 < millidegrees / 1e3 < HOTTEST_C:
                found.append(millidegrees / 1e3)
    return min(found, default=None)


def _found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None
