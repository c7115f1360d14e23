"""What data, runs and model folders bring, in Chinese: names, and phrases with values in them, such as why a cell could
not be read. What is not here stays as it is: names of people's own columns and classes, words of other libraries.
"""

from __future__ import annotations

NAMES = {
    "simple models": "简单模型",
    "pretraining": "预训练",
    "fine-tuning": "微调",
    "import": "导入",
    "train": "训练",
    "val": "验证",
    "test": "测试",
    "majority": "多数类",
    "mean": "均值",
    "logistic regression": "逻辑回归",
    "ridge": "岭回归",
    "gradient boosting": "梯度提升",
    "Right": "答对",
    "Wrong, the most confident first": "答错，最有把握的在前",
    "Typical": "典型",
    "Furthest from the truth": "离真值最远",
    "Some answers": "部分答案",
    "Least likely": "最不可能",
    "validation rows": "验证数据",
    "rows held out in cross-validation": "交叉验证中留出的数据",
    "exported": "导出",
    "served": "提供服务",
    # -- baselines
    "median": "中位数",
    "mean image": "平均图片",
    "last value": "最后一个值",
    "seasonal naive": "季节朴素法",
    "stopped before it converged": "未收敛即停止",
    "trees see nothing of these columns": "树模型在这些列中看不到任何内容",
    "its penalty is the usual one: there was no time, or there were no rows, to choose it": (
        "惩罚项取通常的值：没有时间或没有行来选择"
    ),
    # -- column types
    "text": "文本",
    "category": "类别",
    "number": "数值",
    "date": "日期",
    "image": "图片",
    "audio": "音频",
    "video": "视频",
    "series": "序列",
    "items": "项目",
    "trace": "轨迹",
    "molecule": "分子",
    "boxes": "方框",
    # -- splits and costs
    "at random": "随机",
    "as for the model it starts from": "与它所出发的模型相同",
    "measured": "实测",
    "estimated": "估计",
    "NVML of the board": "板卡的 NVML",
    # -- trials
    "nano": "nano",
    "the wide read-out alone": "仅宽读出",
    "trained from nothing": "从零训练",
    "pretrained": "预训练后",
    "then all of it fine-tuned": "全部微调",
    "its trunk frozen": "主干冻结",
    "its trunk changed by LoRA": "主干由 LoRA 改变",
    "stopped early": "提前停止",
    "failed": "失败",
    # -- charts
    "answered": "回答",
    "true": "真值",
    "history": "历史",
    "90 % interval": "90 % 区间",
    "points ahead": "向前的点数",
    "share of the boxes found": "找出的方框比例",
    "share of the answered that are right": "所答方框中正确的比例",
    "step": "步",
    "training loss": "训练损失",
    "validation loss": "验证损失",
    "trial": "试验",
    "trial (a tick: stopped early)": "试验（短线：提前停止）",
    "all together": "合计",
    "wide": "宽读出",
    "scratch": "从零训练",
    "frozen": "冻结",
    "lora": "LoRA",
    "confidence": "把握",
    "right": "答对",
    "as sure as right": "把握与正确率相等",
    "share of the rows answered, %": "作答的行的比例（%）",
    "labelled training rows": "有标签的训练行数",
    "this model": "本模型",
    # -- the audit
    "one for each value": "每个值一组",
    "quarters of the rows, by value": "按值把行分成四份",
    "logistic regression on the same columns": "用同样列的逻辑回归",
    "a threshold of its own for each group": "每个群体各用一个阈值",
    "weights in training that make groups and classes independent": "训练中使群体与类别相互独立的权重",
    "missing cells": "缺失的单元格",
    "given values left out at random": "随机去掉已知的值",
    "of all given values": "的已知值",
    "typos": "打字错误",
    "letters swapped, left out, doubled, or taken from the next key": "字母交换、遗漏、重复或误按邻键",
    "of the letters": "的字母",
    "homophones": "同音字",
    "Chinese characters that sound the same, tones aside": "读音相同（不计声调）的汉字",
    "look-alikes": "形近字",
    "Chinese characters, letters and digits that look nearly the same": "看上去几乎一样的汉字、字母和数字",
    "of the characters that could be replaced": "的可替换字符",
    "blur": "模糊",
    "Gaussian blur, of such a standard deviation": "高斯模糊，标准差如上",
    "of the shorter side": "的短边",
    "noise": "噪声",
    "Gaussian noise in every pixel, of such a standard deviation": "每个像素的高斯噪声，标准差如上",
    "of full scale": "的满量程",
    "saved as JPEG": "存为 JPEG",
    "JPEG quality": "（JPEG 质量）",
    "white noise": "白噪声",
    "dB below the recording": "dB（低于录音）",
    "background sound": "背景声",
    "another recording of the column behind it": "背后混入该列的另一段录音",
    "speed": "速度",
    "played faster or slower": "放得更快或更慢",
    "times as fast, or as slow": "倍速或慢速",
    "pitch": "音高",
    "higher or lower, as long as before": "更高或更低，时长不变",
    "semitones": "个半音",
    "inexactness": "不精确",
    "Gaussian noise, of such a standard deviation": "高斯噪声，标准差如上",
    "of the column's spread": "的列的离散程度",
    "wrong classes": "错误的类别",
    "another class of the column": "换成该列的另一个类别",
    "of the values": "的值",
    "loss": "损失",
    "loss, less how hard the row is": "损失减去该行的难度",
    "Its wide read-out looks at values and was not moved.": "它的宽读出直接看值，未被移动。",
    "Membership was not tried: too few rows that are known to be learnt, or not learnt, have answers.": (
        "没有做成员推断：已知学过或没学过的行中，有答案的太少。"
    ),
    "a script": "脚本",
    "a program (ELF)": "程序（ELF）",
    "a program (Windows)": "程序（Windows）",
    "a program (macOS)": "程序（macOS）",
    "a program (macOS or Java)": "程序（macOS 或 Java）",
    "a program (WebAssembly)": "程序（WebAssembly）",
    "code, by its name": "从名字看是代码",
    "a pickle: opening it can run code": "pickle：打开它可能运行代码",
    "an archive or array file of a kind that can hold pickles": "可能含有 pickle 的压缩包或数组文件",
    "named by the manifest, and not there": "清单中有，实际没有",
    "edited since it was written": "写成后被改动过",
    "its SHA-256 is not the manifest's": "它的 SHA-256 与清单不符",
    "not named by the manifest: nobody knows whether it was changed": "清单中没有：无从知道是否被改动过",
    "not proper JSON": "不是正确的 JSON",
    "a page with a script": "含脚本的网页",
    "a private key": "私钥",
    "an AWS access key": "AWS 访问密钥",
    "a GitHub token": "GitHub 令牌",
    "a GitLab token": "GitLab 令牌",
    "a Hugging Face token": "Hugging Face 令牌",
    "an API key (sk-)": "API 密钥（sk-）",
    "a Google API key": "Google API 密钥",
    "a Slack token": "Slack 令牌",
    "a Stripe key": "Stripe 密钥",
    "a JSON web token": "JSON 网络令牌",
    "a password in an address": "地址中的密码",
    "a bearer token": "bearer 令牌",
    "a path of somebody's machine": "某人机器上的路径",
    "a random text, as keys are": "像密钥一样的随机文本",
    "a value under a name of secrets": "以秘密为名的值",
    # -- explanations
    "nats": "奈特",
    "days": "天",
    "value": "值",
    "token": "词元",
    "tokens": "词元",
    "patch": "图块",
    "patches": "图块",
    "frame": "帧",
    "frames": "帧",
    "box": "方框",
    "steps": "步",
    "columns": "列",
    "atom": "原子",
    "atoms": "原子",
    "Attention has no sign: these are shares of where the model looks.": "注意力没有正负：这些是模型注视各处的比例。",
    "The length of the state at each part": "各部分处状态的长度",
    "What the model would answer after each block": "模型在每个模块之后会如何回答",
    "The nearest training rows, as the model sees them": "在模型看来最接近的训练行",
    "where the answer is read": "读出答案之处",
    "column": "列",
    "part": "部分",
    "as it enters": "进入时",
    "stopped": "停在",
    "answer": "答案",
    "training row": "训练行",
    "cosine": "余弦",
    "change": "改动",
    "size of the change": "改动的大小",
    # -- the ledger
    "the table": "表",
    "other reasons": "其他原因",
    "answered by the teacher": "由教师模型回答",
    "classes unseen in training": "训练中未见过的类别",
    "boxes of a class unseen in training": "训练中未见过的类别的方框",
    "boxes without a size": "没有大小的方框",
    "boxes outside their picture": "在图片之外的方框",
    "missing points": "缺失的点",
    "unknown characters": "未知字符",
    "unknown atoms": "未知原子",
    "texts": "文本",
    "molecules": "分子",
    "rows with the inputs of a row in an earlier split, left out": "输入与前一部分中的行相同，已去掉",
    "held-out rows beyond those judged, which are a random sample": "超出评判数量的留出行（评判的是随机样本）",
    "training rows beyond those that simple models learn from, a random sample": (
        "超出简单模型学习数量的训练行（学习的是随机样本）"
    ),
    "NaT is not a date": "NaT 不是日期",
    "the item that came next is missing": "缺少随后的项目",
    "a whole number above 1.8e308 cannot be held": "大于 1.8e308 的整数无法保存",
    "the series is empty": "序列是空的",
    "an infinite value is no number to go on from": "无穷大的值无法作为依据",
    "every point is missing": "所有点都缺失",
    "expected channels of one length, by name": "应为按名称给出的等长通道",
    "expected numbers, all channels equally long": "应为数值，且各通道等长",
    "a conversation whose reply the model's own chat template spells otherwise than asked for": (
        "对话的回复被模型自己的对话模板写成了别的样子"
    ),
    "a conversation, and this column learnt from texts only: fine-tune it on conversations": (
        "这是对话，而这一列只学过文本：请用对话微调它"
    ),
    "a conversation of which the model's own chat template makes nothing": (
        "模型自己的对话模板从这段对话中得不到任何内容"
    ),
    "a conversation without a reply": "没有回复的对话",
    "the text holds a lone surrogate, which is not Unicode text": "文本含有孤立的代理码位，不是 Unicode 文本",
    "a text that spells other control tokens than its gaps": "文本中写有空缺以外的控制词元",
}

# Longer ones come first where several fit.
PHRASES = {
    "length of {column}": "{column} 的长度",
    "skipped: {why}": "跳过：{why}",
    "{column} not used: {why}": "未使用 {column}：{why}",
    "skipped: it would take longer than {seconds} s": "跳过：耗时会超过 {seconds} 秒",
    "{column} not used: looking at it would take longer than {seconds} s": "未使用 {column}：查看它会超过 {seconds} 秒",
    "knows other classes of {ask}": "所知的 {ask} 的类别不同",
    "at most {rounds} rounds, one choice of settings: there was no time for more": (
        "至多 {rounds} 轮，只试一组设置：没有更多时间"
    ),
    "skipped: needs a dense table, and {n} features are too many for one": "跳过：需要稠密表，而 {n} 个特征太多",
    "skipped: the given columns hold nothing that stands in two rows, so there are no features": (
        "跳过：已知列中没有在两行里出现的内容，因此没有特征"
    ),
    "skipped: training rows of at least two classes are needed, found one": "跳过：训练行至少要有两个类别，只有一个",
    "skipped: {n} classes by {features} features are too many weights": (
        "跳过：{n} 个类别乘 {features} 个特征，权重太多"
    ),
    "{watts} W for {seconds} seconds of a core": "每核 {watts} W，共 {seconds} 核秒",
    "{watts} W for {seconds} seconds of the accelerator": "加速器 {watts} W，共 {seconds} 秒",
    "RAPL of {packages}": "{packages} 的 RAPL",
    "{machine}, threads: {n}": "{machine}，线程数：{n}",
    "at random, each {column} in proportion": "随机，{column} 各值按比例",
    "by {column}, each whole in one split": "按 {column}，每组整体归入一个部分",
    "by the scaffolds of {column}, each whole in one split": "按 {column} 的骨架，每组整体归入一个部分",
    "by {column}, the earliest for training, the latest for the test": "按 {column}，最早的用于训练，最晚的用于测试",
    "as the column {column} says": "按列 {column} 的说明",
    "rate × {x}": "学习率 × {x}",
    "dropout {x}": "丢弃率 {x}",
    "weight decay {x}": "权重衰减 {x}",
    "validation: {metric}": "验证：{metric}",
    "Of {n} rows that were not learnt, 1 % is less than one: the threshold lets none of them pass.": (
        "在 {n} 行没学过的数据中，1 % 不到一行：阈值不让其中任何一行通过。"
    ),
    "a link to {path}": "指向 {path} 的链接",
    "larger than {n} MB: not looked through for secrets": "大于 {n} MB：没有查找秘密",
    "asks for remote code ({key})": "要求远程代码（{key}）",
    "line {n}": "第 {n} 行",
    "{n} more of this kind": "另有 {n} 处同类",
    **{
        f"{secret}: {{shown}}": f"{NAMES[secret]}：{{shown}}"
        for secret in (
            "a private key",
            "an AWS access key",
            "a GitHub token",
            "a GitLab token",
            "a Hugging Face token",
            "an API key (sk-)",
            "a Google API key",
            "a Slack token",
            "a Stripe key",
            "a JSON web token",
            "a password in an address",
            "a bearer token",
            "a path of somebody's machine",
            "a random text, as keys are",
            "a value under a name of secrets",
        )
    },
    # -- explanations
    "{n} times the change": "变化的 {n} 倍",
    "the mean of {ask}": "{ask} 的均值",
    "{method}: values of {n} {parts}": "{method}：{n} 个{parts}的数值",
    "{method}: values of the {k} strongest of {n} {parts}": "{method}：{n} 个{parts}中最强的 {k} 个的数值",
    "the log-probability of {ask} = {answer}": "{ask} = {answer} 的对数概率",
    "the log-probability of each token of {ask}": "{ask} 各词元的对数概率",
    "the mean log-probability of a token of {ask}": "{ask} 每个词元的平均对数概率",
    "how well the answered {ask} is predicted (minus its loss)": "所答的 {ask} 被预测得多好（损失取负）",
    "after block {n}": "第 {n} 个模块之后",
    "{ask} would be": "{ask} 会是",
    "The smallest changes with which {ask} is not {answer}": "使 {ask} 不再是 {answer} 的最小改动",
    "No change of up to {n} values, among those of training rows, gives another.": (
        "在训练行的值中，改动至多 {n} 个值都得不到别的答案。"
    ),
    "Gradients pass through what is embedded. What a linear map makes of the history of {column} is not: occlusion and "
    "shapley include it.": (
        "梯度只经过被嵌入的内容。线性映射从 {column} 的历史得到的部分不在其中：occlusion 和 shapley 包含它。"
    ),
    "Gradients pass through the trunk alone. The wide read-out (linear and trees) beside it moves the outcome by "
    "{value} more, which these values do not hold: occlusion and shapley include it.": (
        "梯度只经过主干。旁边的宽读出（线性与树）使结果另变化 {value}，这些值不包含它：occlusion 和 shapley 包含它。"
    ),
    # -- the ledger
    "recordings longer than {seconds} s, heard up to there": "录音长于 {seconds} 秒，只听到该处",
    "lists of boxes whose {column} is missing: not trained on": "{column} 缺失的方框列表：不用于训练",
    "{what} never seen in training": "训练中从未见过的{what}",
    "{what} longer than {room} tokens, of which only {seen} are seen": "{what}长于 {room} 个词元，只看到其中 {seen} 个",
    "longer than a sequence of {n} positions": "长于 {n} 个位置的序列",
    "values without a gap ({gap}), which are not answered": "没有空缺（{gap}）的值，不作回答",
    "events without it, left out": "缺少它的事件，已去掉",
    "a file that cannot be read, left out: {what}": "无法读取的文件，已去掉：{what}",
    "rows of a damaged file of the prepared table, left out: {what}": "预备表中损坏文件的行，已去掉：{what}",
    "nothing is known of the row that it could be answered from": "这一行没有任何已知的、可用来作答的内容",
    "events without it ({why}), left out": "缺少它的事件（{why}），已去掉",
    "{value} cannot be read as {kind}": "{value} 不能读作{kind}",
    "expected a list of boxes, found {kind}": "应为方框列表，得到 {kind}",
    'box {i} should be like {{"label": "cat", "box": [x, y, width, height]}}, found {value}': (
        '方框 {i} 应形如 {{"label": "cat", "box": [x, y, width, height]}}，得到 {value}'
    ),
    "expected one class, found {value}": "应为一个类别，得到 {value}",
    "expected classes, found {value}": "应为若干类别，得到 {value}",
    "expected one class, as in the training rows, found {value}": "应如训练行那样为一个类别，得到 {value}",
    "expected shares of classes that sum to 1, like {example}; found {value}": (
        "应为总和为 1 的类别比例，如 {example}；得到 {value}"
    ),
    "expected a date, found {value}": "应为日期，得到 {value}",
    "{value} is not a date; write YYYY-MM-DD or YYYY-MM-DD HH:MM:SS": (
        "{value} 不是日期；请写 YYYY-MM-DD 或 YYYY-MM-DD HH:MM:SS"
    ),
    "{value} is not a date: {error}": "{value} 不是日期：{error}",
    "{value} is ambiguous: nothing tells whether the day or the month comes first; the type is date:dmy or date:mdy "
    "(--types), or write YYYY-MM-DD": (
        "{value} 有歧义：无从判断日在前还是月在前；类型可写 date:dmy 或 date:mdy（--types），或写 YYYY-MM-DD"
    ),
    "expected a list of {what} or a dict of lists, found {value}": "应为{what}的列表或列表的字典，得到 {value}",
    "a history without any {what}": "没有任何{what}的历史",
    "expected one value a step, found {value}": "每步应为一个值，得到 {value}",
    "{value} is no moment: expected a number or a date like 2024-01-31": (
        "{value} 不是时刻：应为数值或 2024-01-31 这样的日期"
    ),
    "expected fields of one length; {name} has {n} of {count} {what}": (
        "各字段应等长；{name} 有 {count} 个{what}中的 {n} 个"
    ),
    "expected a SMILES, found {value}": "应为 SMILES，得到 {value}",
    "{value} is not a SMILES: only atoms, bonds, branches and rings are": (
        "{value} 不是 SMILES：其中只能有原子、键、支链和环"
    ),
    "{value} is not a molecule: rings, valences or aromaticity do not add up": "{value} 不是分子：环、价或芳香性不成立",
    "expected a number, found {value}": "应为数值，得到 {value}",
    "{value} is not a finite number": "{value} 不是有限的数值",
    "{value} is not a number": "{value} 不是数值",
    "{value} is not a number written with a decimal point, as this column is": (
        "{value} 不是像本列那样用小数点书写的数值"
    ),
    "{value} is not a number written with a decimal comma, as this column is": (
        "{value} 不是像本列那样用小数逗号书写的数值"
    ),
    "{value} has the unit {unit}; the column's numbers are in {own}": "{value} 的单位是 {unit}；本列的单位是 {own}",
    "{value} has the unit {unit}; the column's numbers are without a unit": (
        "{value} 的单位是 {unit}；本列的数值没有单位"
    ),
    "{value} has the unit {unit}; the column's numbers are {own}": "{value} 的单位是 {unit}；本列的数值为 {own}",
    "expected numbers [T] or [T, channels], found shape {shape}": "应为数值 [T] 或 [T, 通道]，得到形状 {shape}",
    "expected a series of numbers, found {value}": "应为数值序列，得到 {value}",
    "expected numbers, found {value}": "应为数值，得到 {value}",
    "expected {n} channel, found {found}": "应为 {n} 个通道，得到 {found}",
    "expected {n} channels, found {found}": "应为 {n} 个通道，得到 {found}",
    "expected {n} channel ({names}), found {found}": "应为 {n} 个通道（{names}），得到 {found}",
    "expected {n} channels ({names}), found {found}": "应为 {n} 个通道（{names}），得到 {found}",
    "a history of {n} points, too short to judge {horizon} by it": "历史只有 {n} 个点，不足以据此评判 {horizon} 个点",
    "none of the last {n} points is there": "最后 {n} 个点全部缺失",
    "a conversation that the model's own chat template does not take ({error})": (
        "模型自己的对话模板不接受这段对话（{error}）"
    ),
    "turn {i} of a conversation must be {{'role': text, 'content': text}}, found {value}": (
        "对话的第 {i} 轮应为 {{'role': 文本, 'content': 文本}}，得到 {value}"
    ),
    "turn {i} of a conversation has the role {role} and {n} characters": "对话的第 {i} 轮角色为 {role}，有 {n} 个字符",
    "turn {i} of a conversation has a part that is no text ({kind}): put pictures and sounds in columns of their own": (
        "对话的第 {i} 轮有一部分不是文本（{kind}）：请把图片和声音放在各自的列中"
    ),
    "turn {i} of a conversation calls a tool without a name: expected {{'function': {{'name': ..., 'arguments': "
    "...}}}}, found {value}": (
        "对话的第 {i} 轮调用了没有名称的工具：应为 {{'function': {{'name': ..., 'arguments': ...}}}}，得到 {value}"
    ),
    "turn {i} of a conversation holds {value}, which is no text for this model": (
        "对话的第 {i} 轮含有 {value}，对本模型而言不是文本"
    ),
    "a text without a gap ({gap})": "没有空缺（{gap}）的文本",
    "a text with a gap after {n} tokens, which are all that is seen": "空缺在 {n} 个词元之后的文本，而只看到这么多",
    "no step has a known {asked}": "没有一步有已知的 {asked}",
    "{name}: {rate} samples a second; expected {low} to {high}": "{name}：每秒 {rate} 个采样；应为 {low} 至 {high}",
    "{name} is too short: {n} samples at {rate} Hz, expected 10 ms at least": (
        "{name} 太短：{rate} Hz 下 {n} 个采样，至少应为 10 毫秒"
    ),
    "{name} holds samples that are no finite numbers": "{name} 含有不是有限数值的采样",
    "{name} is silent": "{name} 没有声响",
    "expected samples [n] or [n, channels], found {found}": "应为采样 [n] 或 [n, 通道]，得到 {found}",
    "{name} is not a readable recording ({error})": "{name} 不是可读的录音（{error}）",
    "{name} is too long: more than {n} samples, all channels together": "{name} 太长：所有通道合计超过 {n} 个采样",
    "{name} has no sound": "{name} 没有声音",
    "{name}: its header promises {n} bytes, it holds {found}": "{name}：文件头称有 {n} 字节，实际为 {found}",
    "{name}: its header promises {n} samples, it holds {found}": "{name}：文件头称有 {n} 个采样，实际为 {found}",
    "{name}: no such file": "{name}：没有这个文件",
    "expected an array [H, W] or [H, W, 3], found shape {shape}": "应为数组 [H, W] 或 [H, W, 3]，得到形状 {shape}",
    "{name} is not a readable image ({error})": "{name} 不是可读的图片（{error}）",
    "expected uint8, or floats from 0 to 1; found {kind} outside that range": (
        "应为 uint8，或 0 至 1 的浮点数；得到超出此范围的 {kind}"
    ),
    "{name}: {width} × {height} pixels; at most {most}": "{name}：{width} × {height} 像素；至多 {most}",
    "{name}: {width} × {height} pixels a frame; at most {most}": "{name}：每帧 {width} × {height} 像素；至多 {most}",
    "expected {what}, found {kind}": "应为 {what}，得到 {kind}",
    "{name} is not a film of a known kind": "{name} 不是已知类型的影片",
    "{name} has no frame": "{name} 没有一帧",
    "expected an array [frames, H, W, 1 or 3], found shape {shape}": "应为数组 [帧, H, W, 1 或 3]，得到形状 {shape}",
    "{name} cannot be decoded to its end: {reason}": "{name} 无法解码到结尾：{reason}",
    "{name} has no picture": "{name} 没有画面",
    "{name}: its {n} bytes unpack to {found} or more, over {times} times as many, as no useful data does. If it is "
    "meant, "
    "unpack it yourself and give what you get": (
        "{name}：它的 {n} 字节解开后有 {found} 字节以上，是原来的 {times} 倍多，有用的数据不会如此。如果确实要用，请"
        "自行解开后再给出"
    ),
    "{name} is too long: more than {n} frames": "{name} 太长：超过 {n} 帧",
}
