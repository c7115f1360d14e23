"""The sentences of the audit in Chinese."""

from __future__ import annotations

AUDIT = {
    "{name}: {rest}": "{name}：{rest}",
    " {note}": "{note}",
    "{name}: audit": "{name}：审计",
    "Onetrunk audit": "Onetrunk 审计",
    "In short": "概要",
    ", {n:,} rows": "，{n:,} 行",
    "Fairness": "公平性",
    "Slices": "切片",
    "Robustness": "稳健性",
    "Privacy": "隐私",
    "Security": "安全",
    # -- fairness
    "{ask} by {column}": "按 {column} 分组的 {ask}",
    "no two groups have enough rows to be compared.": "没有两个群体有足够的行可供比较。",
    "no gap between groups is larger than chance gives.": "群体之间没有超出偶然的差距。",
    " {n} more of {all} gaps are larger than chance gives.": "{all} 个差距中另有 {n} 个超出偶然。",
    "fewer than two groups have enough rows to be compared.": "有足够行可供比较的群体不足两个。",
    "{label} is {high} for {best} and {low} for {least}, a gap of {gap}, {how} ({p}).": (
        "{label}在 {best} 中为 {high}，在 {least} 中为 {low}，相差 {gap}，{how}（{p}）。"
    ),
    "no more than chance gives": "未超出偶然",
    "more than chance gives": "超出偶然",
    "p .001 or less": "p 不大于 .001",
    "{how}: the gap of the {rate} goes from {before} to {after}; accuracy, {accuracy}, changes by {change}. Learnt on "
    "{learnt:,} rows, measured on {rows:,} others.": (
        "{how}：{rate}的差距由 {before} 变为 {after}；准确率原为 {accuracy}，变化 {change}。在 {learnt:,} 行上学得，"
        "在另外 {rows:,} 行上测得。"
    ),
    " Measured on {model}, not on the model itself.": "这是在{model}上测得的，不是在本模型上。",
    "Groups by {column} ({how}), which is given to the model.": "按 {column} 分组（{how}），模型能看到这一列。",
    "Groups by {column} ({how}), which is not given to the model.": "按 {column} 分组（{how}），模型看不到这一列。",
    " {n:,} rows have no value of it and are left out.": "有 {n:,} 行没有它的值，未计入。",
    "What would make gaps smaller, and its cost": "怎样缩小差距，代价多大",
    "{group} ({rows:,} rows)": "{group}（{rows:,} 行）",
    "{meaning}; 95 % intervals.": "{meaning}；95 % 区间。",
    "95 % intervals.": "95 % 区间。",
    "threshold or weight": "阈值或权重",
    # -- slices
    "there are no slices of 30 rows or more to compare.": "没有 30 行以上的切片可供比较。",
    "all of {tried:,} slices fare alike.": "{tried:,} 个切片的表现都一样。",
    "{column} is missing": "{column} 缺失",
    "{column} is {group}": "{column} 为 {group}",
    "{label} is {value} ({span}) on the {rows:,} rows where {where}, and {elsewhere} on the others": (
        "在 {where} 的 {rows:,} 行上，{label}为 {value}（{span}），在其他行上为 {elsewhere}"
    ),
    "{name}: of {tried:,} slices the worst is no worse than chance gives: {figures}.": (
        "{name}：{tried:,} 个切片中最差的也没有差到超出偶然：{figures}。"
    ),
    "{name}: the worst of {tried:,} slices: {figures}.": "{name}：{tried:,} 个切片中最差的一个：{figures}。",
    " {n} more are worse than chance gives.": "另有 {n} 个差得超出偶然。",
    "there": "其中",
    "elsewhere": "其他",
    "behind": "落后",
    "group": "群体",
    "Behind: by how many standard errors it is worse than on all rows. Of {tried:,} slices of shuffled scores the "
    "worst is {behind:.1f} behind at most, in 99 of 100 shuffles.": (
        "落后：比全部行差几个标准误。把得分打乱后，{tried:,} 个切片中最差的在 100 次中有 99 次至多落后 {behind:.1f}。"
    ),
    # -- robustness
    "nothing that was done to what is given made answers clearly worse.": "对已知列做的任何改动都没有使答案明显变差。",
    "{name}: {what} cost most: with {severity}, {label} is {value} instead of {before}, {lost} worse.": (
        "{name}：代价最大的是{what}：{severity} 时，{label}为 {value}，原为 {before}，差了 {lost}。"
    ),
    "{name} in {column}": "{column} 中的{name}",
    "{name}: of {rows:,} rows {unmoved} have the true class above one half; moved against it by {share:g} % of the "
    "length of their embeddings, {against} do ({span}), and moved as far anywhere, {anywhere}.": (
        "{name}：{rows:,} 行中有 {unmoved} 的真实类别概率过半；把嵌入朝不利方向移动其长度的 {share:g} % 后为 "
        "{against}（{span}），朝任意方向移动同样远则为 {anywhere}。"
    ),
    "All given columns": "全部已知列",
    "as they are": "原样",
    "{share:g} %, against the truth": "{share:g} %，朝不利方向",
    "{share:g} %, anywhere": "{share:g} %，任意方向",
    "Rows whose true class is above one half, with embeddings moved by so much of their length.": (
        "嵌入移动其长度的这一比例后，真实类别概率仍过半的行。"
    ),
    "Somebody who knows the model": "了解模型的攻击者",
    "{name}: {what}; {share:.0f} % of the values changed at the last. How much worse, on the same rows: {lost}.": (
        "{name}：{what}；最重时有 {share:.0f} % 的值被改动。同样的行上变差多少：{lost}。"
    ),
    # -- privacy
    "telling training rows by their {score} {works}: AUC {auc} ({auc_span}; by chance up to {auc_by_chance}); at 1 % "
    "false alarms it finds {tpr} of them ({tpr_span}; by chance up to {tpr_by_chance}).": (
        "凭{score}辨认训练行{works}：AUC {auc}（{auc_span}；偶然可达 {auc_by_chance}）；误报 1 % 时能找出其中 {tpr}"
        "（{tpr_span}；偶然可达 {tpr_by_chance}）。"
    ),
    "works": "有效",
    "does no better than chance": "不比偶然更好",
    "of {canaries:,} planted or left-out rows, {right:,} of {guesses:,} guesses were right: ε is above {epsilon:.2f} "
    "at δ = {delta:.2g}, with a confidence of {confidence:.0f} %": (
        "对 {canaries:,} 个埋入或略去的行，{guesses:,} 次猜测中有 {right:,} 次正确：ε 大于 {epsilon:.2f}"
        "（δ = {delta:.2g}），置信度 {confidence:.0f} %"
    ),
    "{shown}; no ε was promised.": "{shown}；没有承诺任何 ε。",
    "{shown}; {promised}, which it keeps.": "{shown}；{promised}，承诺得到遵守。",
    "{shown}; {promised}, WHICH IT BREAKS: something is wrong.": "{shown}；{promised}，承诺被打破：有什么地方出了错。",
    "the accountant says that ε is at most {epsilon:.2f} at δ = {delta:.2g}": (
        "计账器说 ε 至多为 {epsilon:.2f}（δ = {delta:.2g}）"
    ),
    "{promised}; it was not tested with planted rows.": "{promised}；没有用埋入的行检验过。",
    "{n} planted secrets have an exposure of {mean:.1f} bits in the mean ({low:.1f} to {high:.1f}; {chance} for a "
    "model that knows nothing of them). More likely than every alternative: {top}.": (
        "{n} 个预先埋入的秘密平均暴露 {mean:.1f} 比特（{low:.1f} 至 {high:.1f}；对它们一无所知的模型为 {chance}）。"
        "比所有备选都更可能的有 {top} 个。"
    ),
    "given {prompt} characters, it writes the next {compared} word for word for {learnt} ({learnt_span}) of "
    "{learnt_rows:,} training texts, and for {others} ({others_span}) of {other_rows:,} others.": (
        "给出 {prompt} 个字符后，它能一字不差地写出随后 {compared} 个字符的，在 {learnt_rows:,} 条训练文本中占 {learnt}"
        "（{learnt_span}），在另外 {other_rows:,} 条中占 {others}（{others_span}）。"
    ),
    "of {rows:,} answers {share} ({span}) are nearer to a training value than 99 % of true values that were not "
    "learnt are, {how}; {equal:,} are equal to one.": (
        "{rows:,} 个答案中有 {share}（{span}）比 99 % 未学过的真值更接近某个训练值，{how}；与训练值完全相同的有 "
        "{equal:,} 个。"
    ),
    "training rows found": "找出的训练行",
    "At 1 % false alarms, by the {score}; {members:,} training rows beside {others:,} others; shuffled memberships "
    "find up to {by_chance}.": (
        "误报 1 % 时，凭{score}；{members:,} 行训练数据，另有 {others:,} 行其他数据；打乱身份后至多找出 {by_chance}。"
    ),
    "planted": "埋入的秘密",
    "exposure, bits": "暴露度（比特）",
    "at most": "至多",
    "alternatives": "备选数",
    "training texts that it repeats": "它照抄的训练文本",
    "the nearest training value": "最接近的训练值",
    "distance": "距离",
    # -- security
    "The folder holds {files:,} files, {digests:,} of them with the digest of the manifest": (
        "文件夹中有 {files:,} 个文件，其中 {digests:,} 个的摘要与清单一致"
    ),
    "{held}; no code, no pickles and no secrets were found.": "{held}；没有发现代码、pickle 或秘密。",
    " Worth a look: {n}.": "值得看一看的有 {n} 处。",
    ", and {n} more": "，另有 {n} 处",
    "{held}. Found: {file}, {what}{more}.": "{held}。发现：{file}，{what}{more}。",
    "{n:,} more are in audit.json.": "另有 {n:,} 条，见 audit.json。",
    "serious": "严重",
    "worth a look": "值得一看",
    "file": "文件",
    "where": "位置",
    "The folder": "文件夹",
    # -- how to read it
    "Intervals are of 95 %, over the choice of rows. A gap is between the groups with the highest and the lowest "
    "figure. Some group is always the lowest, so groups are compared with groups that were shuffled: p is the share of "
    "shuffles whose groups differ as much, all of them together, and a gap is called more than chance gives from p .01 "
    "down. Only groups of 30 rows or more have a part in gaps.": (
        "区间为 95 %，针对行的选取。差距是数字最高与最低的群体之间的差。总有一个群体最低，因此与打乱的群体相比：p "
        "是打乱后各群体总体差别同样大的比例，p 不大于 .01 才称为超出偶然。只有 30 行以上的群体参与比较。"
    ),
    "Different figures ask for different things, and where groups differ in what is true of them, no model can make "
    "all of them equal. Which one matters is for people to say.": (
        "不同的数字要求不同的东西；如果各群体的真实情况本来不同，没有模型能让所有数字都相等。哪个重要，由人来决定。"
    ),
    "An attack that fails here says that this attack fails. Rows that were learnt and rows that were not must be of "
    "the same source: where they differ otherwise, such as in time, an attack may work without anything learnt by "
    "heart.": (
        "攻击在这里失败，只说明这一种攻击失败。学过与没学过的行必须来自同一来源：如果它们在别的方面（例如时间）不同，"
        "即使没有死记硬背，攻击也可能成功。"
    ),
}
