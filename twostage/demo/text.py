"""A small grammar of Chinese news: documents in the 14 THUCNews classes, the same bytes everywhere for a seed.

The title tells the class best; the body wanders into neighbouring classes (a lottery item about a football match), and
neighbours share words. Counting words gets a classifier part of the way; knowing where a word stands gets it further.
"""

import random
from collections.abc import Callable, Sequence

# class: what it writes about, what happens, what is added. Any subject of a class goes with any of its events.
OWN = {
    "体育": (
        "国足 男篮 女排 火箭队 国际米兰 皇马",
        "客场告负 逆转取胜 晋级八强 备战决赛 遭遇三连败 主场大胜",
        "赛后球迷久久不愿离场 全场比分定格在加时阶段 主帅对防守并不满意 下一轮将迎战老对手 裁判的判罚引起争议",
    ),
    "娱乐": (
        "新片 男主角 女星 导演 偶像剧 天后",
        "首映遇冷 宣布杀青 绯闻缠身 票房大卖 领衔主演 登台献唱",
        "歌迷在机场守候到深夜 片方称将择日公映 经纪人对传闻不予回应 现场星光熠熠 收视率创下新高",
    ),
    "家居": (
        "实木地板 橱柜 沙发 布艺窗帘 卫浴 瓷砖",
        "巧妙收纳 打造田园风 环保升级 搭配有讲究 选购有窍门 点亮客厅",
        "小户型也能显得宽敞 设计师建议以浅色为主 甲醛含量须看检测报告 卧室因此温馨许多 安装时要留意尺寸",
    ),
    "彩票": (
        "双色球 大乐透 足彩 福彩 体彩 彩民",
        "开出五百万 号码走冷 滚存过亿 奖号分析 爆出大奖 专家推荐",
        "得主至今尚未现身领奖 本期蓝球看好奇数 后区关注小号 单注奖金高达千万 胜平负建议双选",
    ),
    "房产": (
        "楼盘 二手房 开发商 地王 写字楼 限购令",
        "成交量下滑 均价回落 低调开盘 捂盘惜售 促销打折 拍出高价",
        "购房者观望气氛浓厚 地铁沿线最受追捧 户型以两居为主 首付比例再度提高 容积率低且绿化好",
    ),
    "教育": (
        "高考 考研 留学生 四六级 公务员考试 自主招生",
        "公布分数线 报名启动 调整大纲 扩大招生 备考冲刺 增设专业",
        "考生须在网上打印准考证 阅读理解难度有所增加 老师提醒注意答题技巧 奖学金名额有限 家长对此意见不一",
    ),
    "时尚": (
        "春装 高跟鞋 名模 香水 彩妆 风衣",
        "抢先看 引领潮流 优雅混搭 显瘦有术 亮相时装周 复古回潮",
        "裸色与碎花最为吃香 腰线提高更显修长 设计灵感来自六十年代 眼影宜选大地色 气场不输超模",
    ),
    "时政": (
        "国务院 外交部 总书记 代表团 省委 中央",
        "召开会议 发表讲话 出访欧洲 会见来宾 审议草案 部署工作",
        "双方就共同关心的问题交换意见 有关文件将于近日下发 会议由主要领导主持 两国关系保持良好势头 纪委负责人列席",
    ),
    "星座": (
        "白羊座 金牛座 双子座 巨蟹座 狮子座 处女座",
        "桃花旺盛 本周运势 最怕孤单 恋爱攻略 财运上升 性格解析",
        "水星逆行时切忌冲动 月亮带来敏感的情绪 幸运数字是七 塔罗牌提示要学会放手 上升星座影响更深",
    ),
    "游戏": (
        "网游 玩家 新资料片 公会 魔兽世界 副本",
        "开启内测 刷新装备 更新补丁 攻略放出 首曝截图 火爆公测",
        "画面细节令人惊叹 点卡可在官网领取 升级速度明显加快 职业平衡仍有待观察 激活码发放完毕",
    ),
    "社会": (
        "男子 老人 出租车司机 村民 女大学生 民警",
        "街头被打 报警求助 深夜失踪 当场被抓 见义勇为 起诉索赔",
        "目前伤者仍在医院抢救 附近居民纷纷围观 法院一审作出判决 家属情绪十分激动 警方正在进一步调查",
    ),
    "科技": (
        "智能手机 笔记本 谷歌 苹果 单反相机 卫星",
        "正式发布 降价促销 曝出漏洞 升级系统 申请专利 评测出炉",
        "屏幕分辨率大幅提升 电池续航仍是短板 商家报价含发票 研究成果刊登在期刊上 像素达到一千万",
    ),
    "股票": (
        "沪指 深成指 大盘 创业板 蓝筹股 券商股",
        "放量上涨 震荡下挫 午后跳水 冲击涨停 缩量整理 破发收跌",
        "两市成交不足千亿 短线建议控制仓位 技术上均线压力较大 多空分歧加剧 板块轮动较快",
    ),
    "财经": (
        "央行 人民币 国际油价 通胀 金价 外贸出口",
        "上调利率 小幅升值 低于预期 创出新高 收紧信贷 同比增长",
        "经济学家认为复苏仍然脆弱 上半年利润有望回暖 汇率波动影响成本 监管层将出台细则 消费需求略显不足",
    ),
}  # fmt: skip

# classes that share these subjects and additions
SHARED = [
    ("股票 财经", "上市公司 银行 外资机构 基金公司 大型国企", "投资者信心有待恢复 季度报告即将披露 资金面总体偏紧"),
    ("财经 房产", "房贷 地产企业 一线城市 民间资本", "调控政策效果逐步显现 银行利率有所松动 市场需求出现分化"),
    ("房产 家居", "样板间 精装房 业主 小户型", "装修费用成为关注焦点 厨房面积略显局促 采光通风俱佳"),
    ("体育 彩票", "英超 世界杯 主队 意甲豪门", "比赛结果出人意料 近五场保持不败 盘口变化值得留意"),
    ("体育 游戏", "冠军联赛 种子选手 队长 战队", "决赛门票已经售罄 双方实力不相上下 赛程安排十分紧凑"),
    ("科技 游戏", "新主机 微软 开发团队 手机版", "用户可以免费下载 硬件配置要求不高 网站流量猛增"),
    ("科技 财经", "电信运营商 互联网公司 芯片巨头", "行业竞争日趋激烈 市场份额继续扩大"),
    ("时政 社会", "市政府 检察院 工作组 基层干部", "事件处理结果已经公布 相关责任人受到处分 群众反映强烈"),
    ("教育 社会", "中学生 校车 教师 大学校长", "学校表示将加强管理 家长希望有个说法 网友展开热议"),
    ("时政 教育", "教育部 人才政策 试点地区", "改革方案正在征求意见 有关部门作出解释"),
    ("娱乐 时尚", "影后 红毯 杂志封面 国际巨星", "造型引来媒体一片赞叹 粉丝大呼惊艳 闪光灯响成一片"),
    ("时尚 星座", "都市女性 完美情人 魅力女生", "自信的女人最美丽 爱情需要用心经营"),
    ("娱乐 星座", "明星夫妻 恋人 人气偶像", "感情生活一向低调 缘分总在不经意间到来"),
    ("彩票 社会", "打工者 退休工人 幸运儿", "一家人激动得彻夜未眠 消息很快传遍小区"),
]

MARKS = ("图文", "组图", "快讯", "独家", "早报", "热点", "观察", "专题")
OPENINGS = ("本报讯", "据悉", "记者昨日获悉", "据介绍", "近日", "连日来", "日前", "据媒体报道", "有消息称", "昨天下午")
VOICES = tuple(
    ["知情人士透露", "记者注意到", "有专家指出", "分析人士表示", "业内人士认为", "另据了解", "值得一提的是", "有网友说"]
)


def documents(per_class: int, seed: int) -> list[tuple[str, int, str]]:
    """(class, number, text) of every document: `per_class` on average, from two thirds to four thirds of it a class."""
    draw = random.Random(f"twostage demo {seed}").random  # random() alone is promised to be the same in every Python
    found = []
    for rank, name in enumerate(OWN):
        size = per_class * 2 // 3 + per_class * 2 * ((rank * 5) % len(OWN)) // (3 * (len(OWN) - 1))
        found += [(name, number, document(name, draw)) for number in range(1, size + 1)]
    return found


def document(name: str, draw: Callable[[], float]) -> str:
    """A title and two paragraphs, in the manner of a THUCNews file; `draw()` gives uniform numbers in [0, 1)."""
    title = _subject(name, draw) + _event(name if draw() < 0.95 else _neighbour(name, draw), draw)
    if draw() < 0.3:
        title = f"{_pick(MARKS, draw)}：{title}"
    first = name if draw() < 0.85 else _neighbour(name, draw)
    second = name if draw() < 0.65 else _neighbour(name, draw)
    date = f"{1 + int(draw() * 12)}月{1 + int(draw() * 28)}日"
    opening = f"{date}消息" if draw() < 0.3 else _pick(OPENINGS, draw)
    news = f"{opening}，{_subject(first, draw)}{_event(first, draw)}，{_addition(first, draw)}。"
    aside = f"{_pick(VOICES, draw)}，{_subject(second, draw)}{_event(second, draw)}。"
    return f"{title}\n　　{news}\n　　{aside}\n"


def _pick(options: Sequence[str], draw: Callable[[], float]) -> str:
    return options[int(draw() * len(options))]


def _subject(name: str, draw: Callable[[], float]) -> str:
    shared = [subjects for names, subjects, _ in SHARED if name in names.split()]
    return _pick(_pick(shared if draw() < 0.3 else OWN[name][:1], draw).split(), draw)


def _event(name: str, draw: Callable[[], float]) -> str:
    return _pick(OWN[name][1].split(), draw)


def _addition(name: str, draw: Callable[[], float]) -> str:
    shared = [additions for names, _, additions in SHARED if name in names.split()]
    return _pick(_pick(shared if draw() < 0.5 else OWN[name][2:], draw).split(), draw)


def _neighbour(name: str, draw: Callable[[], float]) -> str:
    near = [other for names, _, _ in SHARED for other in names.split() if name in names.split() and other != name]
    return _pick(near, draw)
