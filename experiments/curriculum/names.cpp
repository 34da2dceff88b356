// Names and things.
#include "experiments/curriculum/names.h"

#include <algorithm>

namespace vitrine::curriculum {

const std::vector<std::string_view>& women(Language l) {
    static const std::vector<std::string_view> english = {
        "Ada",   "Alba",  "Anna",  "Bela", "Cleo", "Cora",   "Dana", "Dora",  "Edda",  "Ella",  "Eva",  "Faye",
        "Gina",  "Greta", "Hana",  "Ida",  "Ines", "Iris",   "Jana", "Julia", "Kira",  "Lara",  "Lena", "Lily",
        "Lotte", "Maja",  "Maria", "Mia",  "Mira", "Nina",   "Nora", "Olga",  "Paula", "Petra", "Rita", "Rosa",
        "Ruth",  "Sara",  "Sofia", "Tara", "Uma",  "Ursula", "Vera", "Wanda", "Xenia", "Yara",  "Zara", "Zoe"};
    static const std::vector<std::string_view> chinese = {
        "小红", "小丽", "小芳", "小玲", "小燕", "阿珍", "阿梅", "王芳", "陈静", "李娟", "张敏", "周兰",
        "吴霞", "徐丽", "孙悦", "朱琳", "何欣", "林月", "高雪", "宋梅", "田雨", "潘云", "杨柳", "黄莺"};
    return l == Language::chinese ? chinese : english;
}

const std::vector<std::string_view>& men(Language l) {
    static const std::vector<std::string_view> english = {
        "Amir", "Aron",  "Ben",   "Bruno", "Carl",  "David", "Eli",  "Emil", "Felix",  "Finn", "Hugo", "Igor",
        "Jack", "Jonas", "Kai",   "Karl",  "Leo",   "Luca",  "Marc", "Max",  "Milo",   "Nico", "Omar", "Oscar",
        "Otto", "Quinn", "Robin", "Sam",   "Simon", "Sven",  "Theo", "Tom",  "Viktor", "Wim",  "Yuri", "Zeno"};
    static const std::vector<std::string_view> chinese = {
        "小明", "小华", "小军", "小强", "小刚", "大伟", "大山", "阿福", "阿杰", "李雷", "张伟", "刘洋", "杨帆",
        "黄石", "周波", "吴昊", "马力", "胡松", "林木", "高远", "梁宇", "唐宁", "彭飞", "袁方", "郭平", "石磊"};
    return l == Language::chinese ? chinese : english;
}

const std::vector<std::string_view>& first_names(Language l) {
    const auto both = [](Language language) {
        std::vector<std::string_view> all = women(language);
        all.insert(all.end(), men(language).begin(), men(language).end());
        return all;
    };
    static const std::vector<std::string_view> english = both(Language::english), chinese = both(Language::chinese);
    return l == Language::chinese ? chinese : english;
}

const std::vector<std::string_view>& colours(Language l) {
    static const std::vector<std::string_view> english = {"red",   "blue", "green", "yellow", "white",  "black",
                                                          "brown", "grey", "pink",  "orange", "violet", "silver"};
    static const std::vector<std::string_view> chinese = {"红色", "蓝色", "绿色", "黄色", "白色", "黑色",
                                                          "棕色", "灰色", "粉色", "橙色", "紫色", "银色"};
    return l == Language::chinese ? chinese : english;
}

const std::vector<std::string_view>& animals(Language l) {
    static const std::vector<std::string_view> english = {"cat",  "dog",   "horse", "fox",  "seal", "bear",
                                                          "frog", "goat",  "hare",  "swan", "crab", "wolf",
                                                          "deer", "mouse", "duck",  "lion"};
    static const std::vector<std::string_view> chinese = {"猫",   "狗",   "马",   "狐狸", "海豹", "熊",
                                                          "青蛙", "山羊", "兔子", "天鹅", "螃蟹", "狼",
                                                          "鹿",   "老鼠", "鸭子", "狮子"};
    return l == Language::chinese ? chinese : english;
}

const std::vector<std::string_view>& things(Language l) {
    static const std::vector<std::string_view> english = {
        "apple", "book", "chair", "clock", "cup",   "door",  "flag", "glass", "hat",  "key",  "lamp",
        "leaf",  "map",  "moon",  "pen",   "pear",  "plate", "ring", "river", "rope", "ship", "shoe",
        "spoon", "star", "stone", "table", "train", "tree",  "wall", "wheel", "wind", "wood"};
    static const std::vector<std::string_view> chinese = {
        "苹果", "书",   "椅子", "钟",   "杯子", "门",   "旗",   "镜子", "帽子", "钥匙", "灯",
        "叶子", "地图", "月亮", "笔",   "梨",   "盘子", "戒指", "河",   "绳子", "船",   "鞋",
        "勺子", "星星", "石头", "桌子", "火车", "树",   "墙",   "轮子", "风",   "木头"};
    return l == Language::chinese ? chinese : english;
}

std::vector<std::string_view> different(Draws& draw, const std::vector<std::string_view>& from, size_t n) {
    std::vector<std::string_view> all = from;
    draw.shuffle(all);
    all.resize(std::min(n, all.size()));
    return all;
}

}  // namespace vitrine::curriculum
