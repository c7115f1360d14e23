"""The sentences of explanations in Chinese."""

from __future__ import annotations

EXPLANATIONS = {
    "Onetrunk explanation": "Onetrunk 解释",
    "{name}: why it answers so": "{name}：为何如此回答",
    "{n:,} row": "{n:,} 行",
    "{n:,} rows": "{n:,} 行",
    "insertion gain {value:+.3g}": "插入增益 {value:+.3g}",
    "stability {value:.2f} (rank correlation when a row loses one part)": (
        "稳定性 {value:.2f}（一行失去一个部分时的秩相关）"
    ),
    "agreement with {name} {value:.2f}": "与 {name} 的一致性 {value:.2f}",
    "completeness error {value}": "完备性误差 {value}",
    "answered {answer}": "回答 {answer}",
    "Row {n}": "第 {n} 行",
    "forward passes: {n}": "前向传播 {n} 次",
    "backward passes: {n}": "反向传播 {n} 次",
    "Explained: {what}. What is given moves it by {change:+.3g}{unit} in all.": (
        "所解释的是：{what}。已知内容总共使它变化 {change:+.3g}{unit}。"
    ),
    "for the answer (more)": "支持这一答案（更大）",
    "against it (less)": "反对它（更小）",
    "Token by token": "逐个词元",
    "strongest {noun} {value:+.3g}": "最强的{noun} {value:+.3g}",
    "so far": "此前的内容",
    "There is one part, so no order of parts to be judged.": "只有一个部分，因此没有顺序可以评判。",
    "Better than random: leaving out what it names first moves the answer by {figures}{unit} more.": (
        "优于随机：去掉它最先指出的部分，答案多变化 {figures}{unit}。"
    ),
    "No better than random (deletion gain {figures}{unit}): do not rely on this explanation; try another method, or "
    "more rows.": ("不优于随机（删除增益 {figures}{unit}）：不要依赖这一解释；请换一种方法，或用更多的行。"),
}
