"""What documents are asked of who offers a model, section by section: which facts a folder knows, and what a person
must write. It helps to write them; whether they are asked of somebody, and complete, is a question of law.

- `eu-annex-iv`: the technical documentation of annex IV of the EU's AI Act (Regulation (EU) 2024/1689).
- `cn-filing`: in Chinese, what China's filings of algorithms (互联网信息服务算法备案) and of generative services
  (生成式人工智能服务备案) ask.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """`known` names facts (`documents.FACTS`); `to_write` is what no folder knows."""

    title: str
    known: tuple[str, ...] = ()
    to_write: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    title: str
    about: str
    language: str
    must_write: str  # what stands before a list of things to write
    nothing_known: str
    sections: tuple[Section, ...]


FORMS: dict[str, Form] = {
    "eu-annex-iv": Form(
        "Technical documentation: {name}",
        "Draft by the sections of annex IV of Regulation (EU) 2024/1689. What follows is what the model folder "
        "records; what a person must write is listed in each section.",
        "en",
        "A person must write:",
        "The folder knows nothing of this.",
        (
            Section(
                "1. General description of the AI system",
                ("identity", "task", "versions", "hardware"),
                (
                    "the intended purpose, the persons or groups it is used on, and what it must not be used for",
                    "the provider's name and address, and how this version relates to earlier ones",
                    "how it interacts with hardware, software or other AI systems that are no part of it",
                    "the forms in which it is placed on the market or put into service, and its user interface",
                    "instructions for use for the deployer",
                ),
            ),
            Section(
                "2 (a) Methods and steps of development, and pre-trained systems used",
                ("stages",),
                ("why these methods were chosen, and which third-party tools were used and how they were changed",),
            ),
            Section(
                "2 (b) Design specifications",
                ("decisions",),
                (
                    "the rationale and assumptions behind the design, also about the persons it is used on",
                    "trade-offs made to meet the requirements of chapter III, section 2",
                ),
            ),
            Section(
                "2 (c) System architecture and computational resources",
                ("architecture", "cost"),
                ("how the software components build on each other in your system",),
            ),
            Section(
                "2 (d) Data",
                ("data", "columns", "ledger"),
                (
                    "where the data come from, how they were obtained and selected, and on what legal ground",
                    "how the answers were labelled, by whom, and how labels were checked",
                    "for whom and what the data are representative, and which biases they may hold",
                ),
            ),
            Section(
                "2 (e) Human oversight",
                (),
                ("the measures of article 14, and what helps deployers to interpret the answers",),
            ),
            Section("2 (f) Pre-determined changes", (), ("changes to the system that are planned, and their effect",)),
            Section(
                "2 (g) Validation and testing",
                ("evaluation", "gates", "audit"),
                ("who tested, with signature and date; tests beyond those above",),
            ),
            Section(
                "2 (h) Cybersecurity",
                ("security",),
                ("the measures that protect the system where it runs",),
            ),
            Section(
                "3. Monitoring, functioning and control",
                ("certainty", "limits", "groups"),
                (
                    "foreseeable unintended outcomes and risks to health, safety, fundamental rights and equality",
                    "specifications of the input data that deployers must meet",
                ),
            ),
            Section(
                "4. Appropriateness of the performance metrics", ("metrics",), ("why these metrics fit the purpose",)
            ),
            Section("5. Risk management system", (), ("the system of article 9",)),
            Section(
                "6. Relevant changes through the lifecycle", ("runs",), ("changes after it was placed on the market",)
            ),
            Section(
                "7. Standards", ("marking",), ("harmonised standards applied, or how requirements are met otherwise",)
            ),
            Section("8. EU declaration of conformity", (), ("a copy of the declaration of article 47",)),
            Section("9. Post-market monitoring", (), ("the system and plan of article 72",)),
        ),
    ),
    "cn-filing": Form(
        "备案材料草稿：{name}",
        "按互联网信息服务算法备案与生成式人工智能服务备案所问的内容排列。以下是模型文件夹所记录的；每节列出必须由人填写的内容。",
        "zh",
        "必须由人填写：",
        "文件夹中没有这方面的记录。",
        (
            Section("一、主体信息", (), ("主体名称、统一社会信用代码、负责人和联系方式", "算法安全责任人与管理制度")),
            Section(
                "二、算法基本情况",
                ("identity", "task", "versions"),
                ("算法名称、类型和应用领域", "所属产品及其服务形式、访问地址、上线时间", "服务对象和使用场景"),
            ),
            Section(
                "三、算法原理与结构", ("architecture", "stages", "decisions"), ("算法基本原理和运行机制的通俗说明",)
            ),
            Section(
                "四、训练数据",
                ("data", "columns", "ledger"),
                (
                    "语料来源及其合法性：采集方式、授权或协议、开源许可",
                    "个人信息的取得同意情况，知识产权风险的核查",
                    "违法不良信息的过滤办法和抽检结果",
                    "标注规则、标注人员的培训与核验",
                ),
            ),
            Section("五、算力与能耗", ("hardware", "cost"), ("所用算力的提供方及所在地",)),
            Section(
                "六、效果评估",
                ("evaluation", "certainty", "metrics", "gates"),
                ("内容安全评估：测试题库、拒答题库与结果",),
            ),
            Section(
                "七、风险与防控",
                ("limits", "groups", "audit", "security"),
                (
                    "算法滥用、恶意利用和漏洞的防控措施",
                    "关键词库与拦截措施",
                    "投诉举报的渠道与处理",
                    "未成年人保护措施",
                ),
            ),
            Section(
                "八、生成合成内容标识（GB 45438-2025）",
                ("marking",),
                ("服务提供者编码（--producer）", "界面中显式标识的位置与样式", "日志留存期限"),
            ),
            Section("九、变更记录", ("runs",), ("上线后的变更及其备案情况",)),
            Section("十、拟公示内容", ("task", "limits"), ("算法的目的意图、运行机制和公示方式的通俗说明",)),
        ),
    ),
}
