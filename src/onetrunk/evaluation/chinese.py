"""Evidence in Chinese: each sentence under its English, and each metric under its name. `chinese_audit` has those of
the audit, `chinese_explanations` those of explanations, `chinese_names` what data bring.

A test holds that no sentence is missing, that none is there in vain, and that both languages have the same {values}.
"""

from __future__ import annotations

from onetrunk.evaluation.chinese_audit import AUDIT
from onetrunk.evaluation.chinese_explanations import EXPLANATIONS
from onetrunk.evaluation.chinese_names import NAMES, PHRASES

__all__ = ["METRICS", "NAMES", "PHRASES", "SENTENCES"]

_REPORT = {
    # -- figures
    "undefined": "无定义",
    "{low} to {high}": "{low} 至 {high}",
    " points": " 个百分点",
    ", ": "、",
    "{first} and {last}": "{first}和{last}",
    "nothing": "无",
    "{n} columns": "{n} 列",
    "{n:,} held-out row": "{n:,} 行留出数据",
    "{n:,} held-out rows": "{n:,} 行留出数据",
    "{value} ({span}) on {rows}": "{value}（{span}，{rows}）",
    "{label} is {value} on {rows}: too few to say more.": "{label}为 {value}（{rows}）：行数太少，不能说得更多。",
    "{label} {reached}. No simple baseline was run.": "{label} {reached}。没有运行简单基线。",
    "Better than the strongest simple baseline, {best}: {label} {reached}, against {its}: {how}.": (
        "优于最强的简单基线（{best}）：{label} {reached}，基线为 {its}：{how}。"
    ),
    "Worse than the strongest simple baseline, {best}: {label} {reached}, against {its}: {how}.": (
        "不如最强的简单基线（{best}）：{label} {reached}，基线为 {its}：{how}。"
    ),
    "Level with the strongest simple baseline, {best}: {label} {reached}, against {its}: {how}.": (
        "与最强的简单基线（{best}）持平：{label} {reached}，基线为 {its}：{how}。"
    ),
    "{distance} better": "好 {distance}",
    "{distance} worse": "差 {distance}",
    "no difference": "没有差别",
    # -- certainty
    " On the held-out rows the calibration error is {value} ({ends}).": "在留出的行上，校准误差为 {value}（{ends}）。",
    "Its probabilities were not calibrated: training held out no rows for that.": (
        "它的概率未经校准：训练时没有为此留出行。"
    ),
    "Its intervals were not calibrated: training held out no rows for that.": (
        "它的区间未经校准：训练时没有为此留出行。"
    ),
    "{what} from {before} to {after}": "{what}由 {before} 变为 {after}",
    "temperature {value:.2f}": "温度 {value:.2f}",
    "intervals × {value:.2f}": "区间 × {value:.2f}",
    "Its probabilities were calibrated on {n:,} {rows} ({how}). On these rows that brought {changes}.": (
        "它的概率在 {n:,} 行{rows}上校准（{how}）。在这些行上，{changes}。"
    ),
    "Its intervals were calibrated on {n:,} {rows} ({how}). On these rows that brought {changes}.": (
        "它的区间在 {n:,} 行{rows}上校准（{how}）。在这些行上，{changes}。"
    ),
    "If it answered only the surer half of the rows, {label} would be {half} instead of {all}.": (
        "如果只回答较有把握的一半行，{label}为 {half}，而全部行为 {all}。"
    ),
    "Its surer answers are no better: on the surer half of the rows, {label} is {half}, on all {all}.": (
        "较有把握的答案并不更好：在较有把握的一半行上，{label}为 {half}，在全部行上为 {all}。"
    ),
    "How sure it is": "把握如何",
    "How often answers are right, by how sure they are, with 95 % intervals. Below the dotted line it is too sure.": (
        "按把握大小，答案正确的频率，附 95 % 区间。在虚线以下即把握过大。"
    ),
    "If only the surest rows are answered.": "只回答最有把握的行时。",
    # -- leaks and labels
    "No held-out row is nearly equal to a training row in what is given.": (
        "没有一行留出数据的已知内容与训练行几乎相同。"
    ),
    "Nearly equal to a training row in what is given: {n:,} held-out rows.": (
        "有 {n:,} 行留出数据的已知内容与某训练行几乎相同。"
    ),
    "Nearly equal to a training row in what is given: {n:,} held-out rows. On the others, {label} is {value}.": (
        "有 {n:,} 行留出数据的已知内容与某训练行几乎相同。在其余行上，{label}为 {value}。"
    ),
    "{column} alone tells {ask} in {share} of the held-out rows: is it known when the model is asked?": (
        "仅凭 {column} 就能在 {share} 的留出行中得知 {ask}：提问时真的知道它吗？"
    ),
    "{text}.": "{text}。",
    "Would more labels help?": "更多标签有用吗？",
    "More labels would help: with {few:,} labelled rows {name} reaches {label} {before}, with {many:,} {last}.": (
        "更多标签会有帮助：用 {few:,} 行有标签的数据，{name}的{label}为 {before}；用 {many:,} 行为 {last}。"
    ),
    "More labels would hardly help: with {few:,} labelled rows {name} reaches {label} {before}, with {many:,} "
    "{last}.": (
        "更多标签几乎没有帮助：用 {few:,} 行有标签的数据，{name}的{label}为 {before}；用 {many:,} 行为 {last}。"
    ),
    # -- what private training promises
    "It was trained with differential privacy: ε = {epsilon:.2f} at δ = {delta:.2g}, between tables of which one has a "
    "row more.": "它以差分隐私训练：在只相差一行的两张表之间，ε = {epsilon:.2f}，δ = {delta:.2g}。",
    "Every row's gradient was scaled down to a norm of at most {clip:g}, and noise of {noise:.3g} times that was added "
    "in each of {steps:,} steps, which took each row with a probability of {rate:.3g}.": (
        "每一行的梯度范数都被压到 {clip:g} 以内，共 {steps:,} 步，每一步都加上其 {noise:.3g} 倍的噪声，"
        "每一行以 {rate:.3g} 的概率参加一步。"
    ),
    "The promise is made to rows: of a person who has several rows it holds less.": (
        "这一承诺是对行作出的：对拥有多行数据的人，承诺要打折扣。"
    ),
    "It does not cover what vocabularies, names of classes and scales say of the training rows, the counts of rows and "
    "of repaired values, and anything measured on held-out rows or shown of them.": (
        "它不包括：词表、类别名称和数值尺度所透露的训练行信息，行数和修复值的计数，以及在留出行上测得或展示的一切。"
    ),
    "Nor does it cover rows of the stages that were trained without it: {stages}.": (
        "未用差分隐私训练的阶段所用的行也不在其内：{stages}。"
    ),
    # -- times and costs
    "{value:.1f} s": "{value:.1f} 秒",
    "{value:.0f} s": "{value:.0f} 秒",
    "{hours} h {minutes} min": "{hours} 小时 {minutes} 分",
    "{minutes} min {seconds} s": "{minutes} 分 {seconds} 秒",
    "{time}, {energy} (measured), {weight} of CO2, at most {memory} of memory": (
        "{time}，{energy}（实测），{weight} CO2，内存最多 {memory}"
    ),
    "{time}, {energy} (estimated), {weight} of CO2, at most {memory} of memory": (
        "{time}，{energy}（估计），{weight} CO2，内存最多 {memory}"
    ),
    "{time}, {energy}, {weight} of CO2": "{time}，{energy}，{weight} CO2",
    "Run of {verb}, {began}": "{verb} 的一次运行，{began}",
    "All runs": "全部运行",
    "1,000 answers of {ask}": "{ask} 的 1,000 个答案",
    "Energy": "能耗",
    "{how}. CO2 at {grams:,.4g} g a kWh": "{how}。CO2 按每千瓦时 {grams:,.4g} 克计",
    # -- gates
    "{label} of {ask}": "{ask} 的{label}",
    "not measured": "未测量",
    "{what} is {found}, expected at least {bound}": "{what}为 {found}，要求至少 {bound}",
    "{what} is {found}, expected at most {bound}": "{what}为 {found}，要求至多 {bound}",
    "Gates": "关口",
    "kept": "通过",
    "failed": "未通过",
    "{doing} on {when} although it failed: {gates}.": "{when} 仍被{doing}，尽管未通过：{gates}。",
    # -- limits
    "It was measured on held-out rows of the same source. On other rows it may do worse.": (
        "它是在同一来源的留出行上测得的。在其他行上可能更差。"
    ),
    "The intervals show how much the choice of held-out rows matters. Another training run may differ, too.": (
        "区间表示留出哪些行有多大影响。另一次训练也可能不同。"
    ),
    "For {ask}, {name} is simpler and better.": "对 {ask} 而言，{name}更简单，也更好。",
    "For {ask}, {name} is simpler and not clearly worse.": "对 {ask} 而言，{name}更简单，且并不明显更差。",
    "{n:,.0f} held-out rows of {ask} have a label that did not occur in training: the model cannot answer it.": (
        "{ask} 有 {n:,.0f} 行留出数据的标签未在训练中出现：模型答不出它。"
    ),
    # -- the page
    "{name}: what is known of it": "{name}：已知的情况",
    "{n:,} parameters": "{n:,} 个参数",
    "Onetrunk report": "Onetrunk 报告",
    "Asked": "所问",
    "from {given}": "由 {given} 得出",
    " Not counted, without a usable truth: {n:,}.": "未计入（没有可用的真值）：{n:,}。",
    "Answers and truths": "答案与真值",
    "this model": "本模型",
    "{label} on the same rows, with 95 % intervals; higher is better.": "同样的行上的{label}，附 95 % 区间；越高越好。",
    "{label} on the same rows, with 95 % intervals; lower is better.": "同样的行上的{label}，附 95 % 区间；越低越好。",
    "Time": "时间",
    "to answer; for a baseline, to fit and answer": "回答所用；基线则为拟合并回答",
    "All figures": "全部数字",
    "rows": "行数",
    "recall": "召回率",
    "precision": "精确率",
    "{n:,} more classes are in metrics.json.": "另有 {n:,} 个类别，见 metrics.json。",
    "Class by class": "逐类",
    "more than 99 %": "超过 99 %",
    "{sure} sure": "把握 {sure}",
    "and {n} more": "另有 {n} 项",
    "answer": "答案",
    "likelihood": "似然",
    "truth": "真值",
    "missing": "缺失",
    "empty": "空",
    "not a picture or a sound": "不是图片或声音",
    "trial": "试验",
    "what": "内容",
    "validation loss": "验证损失",
    "time": "时间",
    "{n:,} more trials are in metrics.json.": "另有 {n:,} 次试验，见 metrics.json。",
    "A trial's loss is its mean over the validation rows (log loss, or squared error in standard units), with its "
    "standard error. The best of several looks a little better there than it is; the figures above are of other "
    "rows.": (
        "试验的损失是它在验证行上的平均值（对数损失，或标准单位下的平方误差），附标准误。几次中最好的那次在那里看起来"
        "总比实际略好；上面的数字来自其他行。"
    ),
    "What was tried": "尝试过什么",
    "Training loss, {stage}": "训练损失，{stage}",
    "Validation, {stage}": "验证，{stage}",
    "How it learnt": "学习过程",
    "Data": "数据",
    "Rows": "行",
    "Split": "划分",
    "column": "列",
    "what happened": "发生了什么",
    "how many": "多少",
    "Nothing was dropped, cut, repaired or repeated.": "没有丢弃、截断、修复或重复任何内容。",
    "and {n:,} more.": "另有 {n:,} 条。",
    "Columns": "列",
    "What it learnt from": "学自什么",
    "Dropped, cut, repaired or repeated": "丢弃、截断、修复或重复",
    "Machine": "机器",
    "Parameters": "参数",
    "Seed": "种子",
    "Versions": "版本",
    "Written": "写于",
    "How it was made": "如何制成",
    "How to read this": "如何阅读",
    "All figures are of held-out rows: the model did not learn from them. The interval beside a figure shows how much "
    "it depends on which rows were held out (95 % confidence). It says nothing about other kinds of data, nor about "
    "another training run.": (
        "所有数字都来自留出的行：模型没有从中学习。数字旁的区间表示它在多大程度上取决于留出了哪些行（95 % 置信度）。"
        "它并不说明其他种类的数据，也不说明另一次训练。"
    ),
    "A baseline is a simple, well-known method, fitted on the training rows that have an answer, with the same given "
    "columns, and judged on the same rows. If the interval of a difference includes zero, the difference may be "
    "chance.": (
        "基线是简单而众所周知的方法，用有答案的训练行和同样的已知列拟合，并在同样的行上评判。如果差别的区间包含零，"
        "差别可能只是偶然。"
    ),
}
SENTENCES = _REPORT | AUDIT | EXPLANATIONS

# Label and meaning.
METRICS = {
    "accuracy": ("准确率", "答对的比例"),
    "balanced_accuracy": ("平衡准确率", "答对的比例，各类同等计算"),
    "f1_macro": ("宏 F1", "精确率与召回率合在一起，各类同等计算"),
    "f1_micro": ("微 F1", "精确率与召回率合在一起，各标签同等计算"),
    "auc": ("AUC", "正确的类别排在前面的频率；0.5 等于瞎猜"),
    "mAP": ("mAP", "各类平均精度的均值"),
    "mAP@.5": ("mAP@.5", "各类平均精度的均值，重叠一半即算命中"),
    "mAP@[.5:.95]": ("mAP@[.5:.95]", "同上，重叠从 .5 到 .95"),
    "log_loss": ("对数损失", "真实类别概率的负对数，单位奈特；越低越好"),
    "brier": ("Brier 分数", "概率的平方误差；越低越好"),
    "ece": ("校准误差", "把握与准确率相差多少；越低越好"),
    "worst_group": ("最差的群体", "表现最差的群体的主要指标"),
    "exposure": ("暴露度", "预先埋入的秘密泄露了多少比特；0 为没有"),
    "worst_class_recall": ("最差的类别", "识别得最差的类别中答对的比例"),
    "wh_per_1000_answers": ("1,000 个答案的能耗", "瓦时；越低越好"),
    "epsilon": ("ε", "差分隐私训练可能泄露一行数据的程度；越低越好"),
    "training_kwh": ("训练的能耗", "全部运行的千瓦时；越低越好"),
    "interval_score": ("区间得分", "90 % 区间的宽度加上落在区间外的代价，标准单位；越低越好"),
    "unseen": ("未见过的标签", "真实标签未在训练中出现的行数；按答错计算"),
    "rmse": ("均方根误差", "典型误差，大误差权重更大；越低越好"),
    "mae": ("平均误差", "平均绝对误差；越低越好"),
    "medae": ("中位误差", "一半的误差比它小；越低越好"),
    "r2": ("R²", "解释了多少方差；总答均值为 0"),
    "spearman": ("秩相关", "Spearman 秩相关；顺序全对为 1"),
    "coverage": ("覆盖率", "真值落在 90 % 区间或集合内的比例；90 % 为恰当"),
    "set_size": ("集合大小", "90 % 集合中平均有几个类别；越少越能说明问题"),
    "level_error": ("级别误差", "与真实级别平均相差几级；越低越好"),
    "quadratic_kappa": ("二次加权 kappa", "级别的一致程度，差得越远权重越大；瞎猜为 0，全对为 1"),
    "interval_width": ("区间宽度", "90 % 区间的平均宽度"),
    "crps": ("CRPS", "整个分布的误差；越低越好"),
    "exact_match": ("完全一致", "写得一字不差的比例"),
    "character_error_rate": ("字符错误率", "平均每个真实字符需要改几处；越低越好"),
    "word_error_rate": ("词错误率", "平均每个真实词需要改几处；越低越好"),
    "mel_cepstral_distortion": ("梅尔倒谱失真", "听起来相差多少，分贝；越低越好"),
    "log_spectral_distance": ("对数谱距离", "频谱相差多少，分贝；越低越好"),
    "length_error": ("长度误差", "长度平均相差几秒；越低越好"),
    "nearest_known": ("与训练值的距离", "答案到最近的训练值的距离"),
    "nearest_known_of_true": ("真值与训练值的距离", "真值的同一数字；抄袭会近得多"),
    "energy_score": ("能量得分", "两次抽取与真值的距离，减去两者之间距离的一半；越低越好"),
    "spread": ("分散程度", "两个答案相差多少；总画同样的东西则很小"),
    "spread_of_true": ("真值的分散程度", "真值的同一数字"),
    "read_right": ("读得出", "逻辑回归能从答案中读出所给类别的比例"),
    "read_right_of_true": ("真值读得出", "真值的同一数字"),
    "perplexity": ("困惑度", "它在多少个词元之间犹豫；越低越好"),
    "loss": ("损失", "每个词元的奈特数；越低越好"),
    "bits_per_byte": ("每字节比特数", "写一个字节需要的比特数；越低越好"),
    "hit_rate_10": ("前 10 命中率", "真实项目排在全部目录前 10 的频率"),
    "ndcg_10": ("前 10 的 NDCG", "同上，排得越前计得越多；对全部目录"),
    "mrr": ("倒数排名", "真实项目在全部目录中排名的倒数的均值"),
    "hit_rate_10_of_101": ("101 中前 10 命中率", "真实项目排在它与随机 100 项中前 10 的频率"),
    "ndcg_10_of_101": ("101 中前 10 的 NDCG", "同上，排得越前计得越多；在随机 100 项中"),
    "similarity": ("相似度", "真实分子与所答分子指纹的 Tanimoto 相似度"),
    "validity": ("有效", "是分子的答案的比例"),
    "uniqueness": ("互不相同", "有效答案中互不相同的比例"),
    "novelty": ("新颖", "互不相同的有效答案中训练行没有的比例"),
    "novelty_of_true": ("真值新颖", "互不相同的真值中训练行没有的比例"),
    "selection_rate": ("入选率", "得到这一答案的行的比例"),
    "true_positive_rate": ("真阳性率", "确实如此的行中，答案也如此的比例"),
    "false_positive_rate": ("假阳性率", "并非如此的行中，答案却如此的比例"),
    "precision": ("精确率", "答案如此的行中，确实如此的比例"),
}
