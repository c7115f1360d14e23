"""Texts as hurried people write them: typing errors, Chinese characters that sound or look like the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.perturbation import Draw, Perturbation

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# Common characters of one syllable, whatever their tones: what an input method by sound offers beside the right one.
_HOMOPHONES = """
的得地德 在再载 他她它塔 做作坐座 是事市时试式视 有又友由 和合河何 以已意一易义 会回汇惠 那哪拿 买卖埋麦 里理力离利
没美每妹 很恨 象像想向相 只之知指至直 名明鸣 定订顶 生声省升 心新信欣 高搞告 小笑晓 进近今金 去取趣 见间件建简
话花画化华 长常场唱 房防方放 店电点典 服福夫付 务物无误 好号浩 不步部布 大打达 找照 早造 气起其期器 床窗创 水睡谁
吃迟 住主注祝 人仁认 员原远元园 价家加假 钱前签千 便变边遍 干甘感敢 净静经京 设社射 备被背北 环还换欢 境竟镜 差查茶
太台态 到道倒 非飞费 说硕 看刊 听厅停 走奏 行形型 外歪 上尚伤 下夏吓 老劳 少烧 多朵 快块 冷愣 热惹 红洪 白百 空孔
酒久九 饭烦反
"""

# Common characters of nearly one shape, and letters and digits that look alike.
_LOOKALIKES = """
己已巳 未末 土士 日曰 人入八 大太犬 天夫 千干于 午牛 田由甲申 贝见 住往 间问闻 买卖 休体 今令冷 乌鸟 兔免 折拆 拔拨
晴睛情清请 侯候 竞竟 底低 园圆 房旁 哪那 很根 注往 设没 话活 进近 远运 快块 慢漫 饭饮 馆管 服报 静净 床庆 厅厉 电申
气汽 热势 O0o l1I S5 B8 Z2
"""

_TYPED = (0.02, 0.05, 0.15)
_REPLACED = (0.1, 0.3, 1.0)


def text_perturbations() -> tuple[Perturbation, ...]:
    """Each on texts; conversations stay as they are."""
    return (
        Perturbation("typos", "letters swapped, left out, doubled, or taken from the next key", "of the letters",
                     _TYPED, _of_texts(typos)),
        Perturbation("homophones", "Chinese characters that sound the same, tones aside",
                     "of the characters that could be replaced", _REPLACED, _of_texts(_replacing(_HOMOPHONES.split()))),
        Perturbation("look-alikes", "Chinese characters, letters and digits that look nearly the same",
                     "of the characters that could be replaced", _REPLACED, _of_texts(_replacing(_LOOKALIKES.split()))),
    )  # fmt: skip


def typos(text: str, share: float, key: int) -> str:
    """About this share of the Latin letters is typed wrongly."""
    out, i = [], 0
    u = rng.uniform(np.array([key], dtype=np.uint64), max(1, len(text)), 3)[0]
    while i < len(text):
        letter = text[i]
        if not (letter.isascii() and letter.isalpha()) or u[i, 0] >= share:
            out.append(letter)
        elif (kind := int(4 * u[i, 1])) == 0 and i + 1 < len(text):
            out += [text[i + 1], letter]
            i += 1
        elif kind == 1:
            pass
        elif kind == 2:
            out += [letter, letter]
        else:
            out.append(_next_key(letter, float(u[i, 2])))
        i += 1
    return "".join(out)


def _next_key(letter: str, u: float) -> str:
    row = next(row for row in _ROWS if letter.lower() in row)
    at = row.index(letter.lower())
    beside = [row[j] for j in (at - 1, at + 1) if 0 <= j < len(row)]
    chosen = beside[int(u * len(beside))]
    return chosen.upper() if letter.isupper() else chosen


def _others(groups: Iterable[str]) -> dict[str, str]:
    """Each character's others, of all groups that it is in."""
    out: dict[str, str] = {}
    for group in groups:
        for character in group:
            out[character] = out.get(character, "") + "".join(c for c in group if c != character)
    return out


def _replacing(groups: Iterable[str]) -> Callable[[str, float, int], str]:
    table: Mapping[str, str] = _others(groups)

    def replaced(text: str, share: float, key: int) -> str:
        if not any(character in table for character in text):
            return text
        u = rng.uniform(np.array([key], dtype=np.uint64), len(text), 2)[0]
        return "".join(
            table[c][int(u[i, 1] * len(table[c]))] if c in table and u[i, 0] < share else c for i, c in enumerate(text)
        )

    return replaced


def _of_texts(change: Callable[[str, float, int], str]) -> Callable[[Any, float, Draw], Any]:
    def changed(value: Any, severity: float, draw: Draw) -> Any:
        if not isinstance(value, str):
            return value
        text = change(value, severity, draw.key)
        return value if text == value else text

    return changed
