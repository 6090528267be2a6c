from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeclip.runtime.board import Board
from edgeclip.runtime.thermal import CALM_S, Governor, Thermal


@dataclass
class Lane:
    max_fps: float | None = None
    taken: int = 0


class Jetson:
    """A sysfs like that of an Orin: two zones, one of them off, a fan, a throttling device, an INA3221."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.heat(50.0)
        self.put("class/thermal/thermal_zone0/type", "cpu-thermal")
        self.put("class/thermal/thermal_zone0/trip_point_0_type", "critical")
        self.put("class/thermal/thermal_zone0/trip_point_0_temp", "104500")
        self.put("class/thermal/thermal_zone0/trip_point_1_type", "passive")
        self.put("class/thermal/thermal_zone0/trip_point_1_temp", "85000")
        self.put("class/thermal/thermal_zone1/type", "cv0-thermal")
        self.put("class/thermal/thermal_zone1/temp", "-256000")
        self.put("class/thermal/cooling_device0/type", "pwm-fan")
        self.put("class/thermal/cooling_device0/cur_state", "3")
        self.put("class/thermal/cooling_device1/type", "cpufreq-cpu0")
        self.throttle(0)
        rails = (("VDD_IN", 5000, 1400), ("VDD_CPU_GPU_CV", 5000, 500), ("VDD_SOC", 5000, 300))
        for number, (name, millivolts, milliamperes) in enumerate(rails, 1):
            self.put(f"class/hwmon/hwmon1/in{number}_label", name)
            self.put(f"class/hwmon/hwmon1/in{number}_input", str(millivolts))
            self.put(f"class/hwmon/hwmon1/curr{number}_input", str(milliamperes))

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def heat(self, temperature_c: float) -> None:
        self.put("class/thermal/thermal_zone0/temp", str(round(temperature_c * 1000)))

    def throttle(self, state: int) -> None:
        self.put("class/thermal/cooling_device1/cur_state", str(state))


@pytest.fixture
def jetson(tmp_path: Path) -> Jetson:
    return Jetson(tmp_path)


# The board


def test_a_jetson_reports_temperature_limit_and_the_power_of_the_whole_board(jetson: Jetson) -> None:
    reading = Board(jetson.root).read()
    assert [(zone.name, zone.temperature_c, zone.passive_c) for zone in reading.zones] == [("cpu-thermal", 50.0, 85.0)]
    assert reading.power_w == pytest.approx(7.0)  # VDD_IN alone: the other rails are behind it
    assert reading.throttled == ()
    jetson.throttle(2)
    assert Board(jetson.root).read().throttled == ("cpufreq-cpu0",)


def test_rails_without_a_common_one_are_added(jetson: Jetson) -> None:
    jetson.put("class/hwmon/hwmon1/in1_label", "VDD_GPU")
    jetson.put("class/hwmon/hwmon2/power1_input", "2500000")
    assert Board(jetson.root).read().power_w == pytest.approx(7.0 + 2.5 + 1.5 + 2.5)


def test_a_board_without_sensors_reports_nothing(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert not board.can_be_read
    reading = board.read()
    assert (reading.hottest, reading.throttled, reading.power_w) == (None, (), None)


def test_a_sensor_that_fails_is_no_reading(jetson: Jetson) -> None:
    board = Board(jetson.root)
    jetson.put("class/thermal/thermal_zone0/temp", "")
    (jetson.root / "class/hwmon/hwmon1/curr1_input").unlink()
    assert board.read().hottest is None
    assert board.read().power_w is None


# The steps


def test_hotter_slows_at_once_and_cooler_only_when_it_is_calm() -> None:
    governor = Governor()
    seen = [(governor.update(margin_c, False, 0.0), governor.level, governor.share) for margin_c in (20, 9, 6, 7, 3)]
    assert seen == [(False, 0, 1.0), (True, 1, 0.75), (True, 2, 0.5), (False, 2, 0.5), (True, 3, 0.25)]
    assert not governor.update(4.9, False, 100.0)  # within the hysteresis
    assert not governor.update(5.1, False, 110.0)
    assert not governor.update(5.1, False, 110.0 + CALM_S - 1)
    assert governor.update(5.1, False, 110.0 + CALM_S)
    assert governor.level == 2
    assert not governor.update(30.0, False, 131.0)  # one step at a time
    assert governor.update(30.0, False, 131.0 + CALM_S)
    assert governor.level == 1


def test_a_temperature_that_wavers_around_a_step_does_not_flap() -> None:
    governor = Governor()
    changes = sum(governor.update(9.0 + math.sin(second), False, second) for second in range(600))
    assert changes == 1


def test_a_board_that_throttles_by_itself_is_slowed_whatever_its_sensors_say() -> None:
    governor = Governor()
    assert governor.update(math.inf, True, 0.0)
    assert governor.level == 1


# Both


def test_the_frame_rate_goes_down_in_steps_and_each_is_said_once(jetson: Jetson) -> None:
    said: list[str] = []
    lanes = [Lane(), Lane()]
    thermal = Thermal(lanes, said.append, board=Board(jetson.root))

    def ten_seconds(began_s: float, temperature_c: float) -> None:
        jetson.heat(temperature_c)
        for second in range(0, 10, 2):
            for lane, fps in zip(lanes, (20.0, 8.0), strict=True):
                lane.taken += round(2 * min(fps, lane.max_fps or fps))
            thermal.look(began_s + second)

    ten_seconds(0, 60)
    assert [lane.max_fps for lane in lanes] == [None, None]
    ten_seconds(10, 80)
    assert [lane.max_fps for lane in lanes] == [pytest.approx(10.0), pytest.approx(4.0)]
    assert said == ["cpu-thermal 80 °C, limit 85 °C: 50% of the usual frame rate (10.0, 4.0 a second)"]
    assert str(thermal).startswith("80 °C, 50% of the frame rate, 7.0 W, ")
    for begin_s in range(20, 90, 10):
        ten_seconds(begin_s, 60)
    assert [lane.max_fps for lane in lanes] == [None, None]
    assert said[1:] == [
        "cpu-thermal 60 °C, limit 85 °C: 75% of the usual frame rate (15.0, 6.0 a second)",
        "cpu-thermal 60 °C, limit 85 °C: the usual frame rate again",
    ]


def test_a_limit_of_the_users_comes_before_the_board_s(jetson: Jetson) -> None:
    thermal = Thermal([Lane()], lambda text: None, board=Board(jetson.root), limit_c=52.0)
    thermal.look(0.0)
    assert thermal.level == 3


def test_a_board_that_is_hot_from_the_start_is_slowed_as_soon_as_a_rate_is_known(jetson: Jetson) -> None:
    lane = Lane()
    jetson.heat(84)
    thermal = Thermal([lane], lambda text: None, board=Board(jetson.root))
    thermal.look(0.0)
    assert (thermal.level, lane.max_fps) == (3, None)
    lane.taken = 40
    thermal.look(2.0)
    assert lane.max_fps == pytest.approx(5.0)


def test_joules_per_frame(jetson: Jetson) -> None:
    lane = Lane(taken=100)
    thermal = Thermal([lane], lambda text: None, board=Board(jetson.root))
    thermal.look(0.0)
    assert thermal.joules_per_frame is None
    lane.taken += 20
    thermal.look(2.0)
    assert thermal.joules_per_frame == pytest.approx(7.0 * 2 / 20)


def test_it_looks_by_itself(jetson: Jetson) -> None:
    with Thermal([Lane()], lambda text: None, board=Board(jetson.root), every_s=0.01) as thermal:
        end_s = time.monotonic() + 20
        while thermal.power_w is None:
            assert time.monotonic() < end_s
            time.sleep(0.01)
