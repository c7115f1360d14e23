"""Which of the older East Asian encodings a file is in: bytes of one can often be decoded as another, into nonsense.

Told by what the characters are. Korean text is nearly all Hangul, half of it the same few hundred syllables; Japanese
text has kana; and a third or more of everyday Chinese text are the same few hundred characters, which nonsense has by
accident only (one in twelve).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_CHINESE = frozenset(
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么心多天而能好都然没日于起"
    "还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声"
    "全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产"
    "入先山五太水万市做员服务价格房酒店早餐差快送买商品质量书评论京省区县路号楼王李张刘陈"
)
_JAPANESE = frozenset(
    "日一国人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食"
    "車何南万毎白天母火右読友左休父雨会社田京都部者地業方場員立新内定手物市開力動米自事明発問代店道品"
)
_KOREAN = frozenset(
    "이다는의에가을를은고하지로도기사자리시한서인어나아정대수부과보제해전일주장라스원조성소구비동있으면게그진안들여상우거관적위공경만신무유선학생요"
    "김박최강윤임오송황권좋습니까했었았않없것때말내저세더데와방문영발연실개간물행산음식미치계호화단모회중국민차불분양운용속점직결당바품도배송청"
    "체크트드아파역남북동반평가격친절깨끗조감매추천별또할재"
)
_MIN_HANGUL = 0.9  # of the letters of a Korean text; the rest are Hanja
_MIN_KOREAN = 0.2  # of its Hangul that is everyday
_MIN_KANA = 0.1  # of the letters of a Japanese text
_MAX_KANA = 0.02  # of those of a Chinese text
_MIN_COMMON = 0.15  # of its characters that are everyday ones


@dataclass
class _Counts:
    """Of the characters beyond ASCII."""

    all: int = 0
    punctuation: int = 0
    han: int = 0
    chinese: int = 0
    japanese: int = 0
    hangul: int = 0
    korean: int = 0
    kana: int = 0
    simplified: int = 0  # characters that GB 2312 has: those of everyday text

    @property
    def letters(self) -> int:
        return max(1, self.han + self.hangul + self.kana)

    def look(self, text: str) -> None:
        foreign = [c for c in text if ord(c) > 127]
        self.all += len(foreign)
        for c in foreign:
            if "\u4e00" <= c <= "\u9fff":
                self.han += 1
                self.chinese += c in _CHINESE
                self.japanese += c in _JAPANESE
            elif "\uac00" <= c <= "\ud7a3":
                self.hangul += 1
                self.korean += c in _KOREAN
            elif "\u3040" <= c <= "\u30ff":
                self.kana += 1
            elif (
                "\u3000" <= c <= "\u303f" or "\uff00" <= c <= "\uff60" or "\u2010" <= c <= "\u2026" or c in "·℃￥"
                or "\u3131" <= c <= "\u318e"  # single letters of Hangul: laughter
            ):  # fmt: skip
                self.punctuation += 1
        self.simplified += len("".join(foreign).encode("gb2312", "ignore")) // 2

    @property
    def usual(self) -> float:
        """The share that is writing or its punctuation: nonsense has all kinds of signs."""
        return (self.han + self.hangul + self.kana + self.punctuation) / max(1, self.all)


def east_asian(blocks: Callable[[], Iterable[bytes]]) -> tuple[str, str] | None:
    """The codec and its name for a person; None where it is none of them, or where nothing tells which. `blocks` begins
    anew each time."""
    counts = {codec: _counted(codec, blocks()) for codec in ("cp949", "euc_jp", "cp932", "gb18030")}
    korean = counts["cp949"]
    if (
        korean
        and korean.usual >= 0.9
        and korean.hangul >= _MIN_HANGUL * korean.letters
        and korean.korean >= _MIN_KOREAN * max(1, korean.hangul)
    ):
        return "cp949", "Korean EUC-KR (CP949)"
    for codec, name in (("euc_jp", "Japanese EUC-JP"), ("cp932", "Japanese Shift JIS")):
        japanese = counts[codec]
        if japanese and japanese.usual >= 0.9 and japanese.kana >= _MIN_KANA * japanese.letters:
            return codec, name
    chinese, japanese = counts["gb18030"], counts["euc_jp"]
    if (
        japanese
        and japanese.japanese >= 2 * _MIN_COMMON * japanese.letters
        and (chinese is None or japanese.japanese > 2 * chinese.chinese)
    ):
        return "euc_jp", "Japanese EUC-JP"  # of Chinese characters only: names, places
    if chinese is None or chinese.usual < 0.9 or chinese.simplified < 0.9 * chinese.all:
        return None
    rather_japanese = japanese is not None and japanese.japanese > chinese.chinese
    if rather_japanese or chinese.kana > _MAX_KANA * chinese.letters or chinese.chinese < _MIN_COMMON * chinese.han:
        return None
    return "gb18030", "Chinese GB 18030"


def _counted(codec: str, blocks: Iterable[bytes]) -> _Counts | None:
    """None where the bytes are not of this encoding."""
    counts = _Counts()
    try:
        for text in _decoded(codec, blocks):
            counts.look(text)
    except UnicodeDecodeError:
        return None
    return counts


def _decoded(codec: str, blocks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(codec)()
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)
