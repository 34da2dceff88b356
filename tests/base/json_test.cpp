// JSON: what is refused and where, what is kept exactly, and Python's spelling on output.
#include "engine/base/json.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"
#include "tests/support/message_of.h"

namespace vitrine {
namespace {

using test::message_of;

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
    try {
        Json::parse(text, "t.json", limits);
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::bad_input);
        return e.what();
    }
    return "accepted";
}

void expect_error(std::string_view text, const char* part, const JsonLimits& limits = {}) {
    EXPECT_NE(error_of(text, limits).find(part), std::string::npos) << text.substr(0, 80) << "\n"
                                                                    << error_of(text, limits);
}

TEST(JsonParse, KeepsIntegersAsIntegers) {
    const Json j =
        Json::parse("[0, -7, 9007199254740993, 9223372036854775807, 18446744073709551615, 1.5, 1e3, -0]", "t");
    EXPECT_EQ(j.items()[2].as_int(), 9007199254740993);
    EXPECT_EQ(j.items()[3].as_int(), INT64_MAX);
    EXPECT_EQ(j.items()[4].as_uint(), UINT64_MAX);
    EXPECT_THROW(j.items()[4].as_int(), Error);
    EXPECT_THROW(j.items()[1].as_uint(), Error);
    EXPECT_THROW(j.items()[5].as_int(), Error);
    EXPECT_EQ(j.items()[6].as_double(), 1000.0);
    EXPECT_EQ(j.items()[6].type(), Json::Type::real);
    EXPECT_EQ(j.dump(), "[0, -7, 9007199254740993, 9223372036854775807, 18446744073709551615, 1.5, 1000.0, 0]");
}

TEST(JsonParse, NamesLineAndColumn) {
    expect_error("{\"a\": 1,\n  \"b\": }", "line 2, column 8");
    expect_error("{\"a\": 1,\n \"a\": 2}", "t.json: not valid JSON (line 2, column 2): duplicate key \"a\"");
    expect_error("", "line 1, column 1");
    expect_error("[1, 2", "line 1, column 6");
    expect_error("{\"a\": \"x\xFF\"}", "line 1, column 9");
    expect_error("\"\\ud800\"", "surrogate");
    expect_error("[1] 2", "line 1, column 5");
    expect_error(std::string_view("{}\0{}", 5), "NUL");
    expect_error("\xEF\xBB\xBF{}", "byte order mark");
    expect_error("[1e400]", "line 1, column 6): number overflow");
    expect_error("[18446744073709551616]", "line 1, column 2): an integer beyond 64 bits");
    expect_error("[-9223372036854775809]", "line 1, column 2): an integer beyond 64 bits");
    expect_error("[NaN]", "line 1, column 2");
    expect_error("[01]", "line 1");
    expect_error("{\"a\" 1}", "line 1, column 6");
    expect_error("[\"a\nb\"]", "line 1, column 4");
}

TEST(JsonParse, ValuesNameTheirFile) {
    const Json j = Json::parse("{\"a\": [1, \"x\"]}", "c.json"), copy = j.at("a").items()[1];
    EXPECT_EQ(message_of([&] { j.at("b"); }), "c.json: key \"b\" is missing in the object at line 1, column 1");
    EXPECT_EQ(message_of([&] { copy.as_int(); }),
              "c.json: expected an integer below 2^63, found a string (line 1, column 11)");
    EXPECT_EQ(message_of([&] { Json(1).as_string(); }), "expected a string, found an integer");
}

TEST(JsonParse, ValuesKnowWhereTheyBegin) {
    const Json j = Json::parse("{\n \"a\": [10,20 , {\"b\":true}],\n\"c\":-1.5e3,\"d\" : \"x\\\"y\"\n, \"e\":{}}", "t");
    EXPECT_EQ(j.where(), "line 1, column 1");
    EXPECT_EQ(j.at("a").where(), "line 2, column 7");
    EXPECT_EQ(j.at("a").items()[1].where(), "line 2, column 11");
    EXPECT_EQ(j.at("a").items()[2].at("b").where(), "line 2, column 21");
    EXPECT_EQ(j.at("c").where(), "line 3, column 5");
    EXPECT_EQ(j.at("d").where(), "line 3, column 18");
    EXPECT_EQ(j.at("e").where(), "line 4, column 7");
    EXPECT_EQ(Json(3).where(), "");
}

TEST(JsonParse, LimitsBelowAtAbove) {
    const auto nested = [](int n) {
        return std::string(static_cast<size_t>(n), '[') + std::string(static_cast<size_t>(n), ']');
    };
    EXPECT_EQ(error_of(nested(31)), "accepted");
    EXPECT_EQ(error_of(nested(32)), "accepted");
    expect_error(nested(33), "line 1, column 33): nested deeper than 32 levels");
    expect_error(nested(100000), "nested deeper than 32");
    JsonLimits small;
    small.max_bytes = 5;
    EXPECT_EQ(error_of("[1,2]", small), "accepted");
    expect_error("[1,22]", "at most 5", small);
    JsonLimits few;
    few.max_values = 4;
    EXPECT_EQ(error_of("[1,2,3]", few), "accepted");
    expect_error("[1,2,3,4]", "more than 4 values", few);
}

TEST(JsonObject, KeepsOrderAndFindsAmongMany) {
    std::string text = "{";
    for (int i = 0; i < 5000; ++i) text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":" + std::to_string(i);
    const Json j = Json::parse(text + "}", "t");
    ASSERT_EQ(j.size(), 5000u);
    EXPECT_EQ(j.members()[4321].first, "k4321");
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(j.at("k" + std::to_string(i)).as_int(), i);
    EXPECT_EQ(j.find("k5000"), nullptr);
    expect_error(text + ",\"k17\":0}", "duplicate key \"k17\"");
    Json copy = j;
    copy.set("k17", "changed");
    EXPECT_EQ(j.at("k17").as_int(), 17);
    EXPECT_EQ(copy.at("k17").as_string(), "changed");
    EXPECT_FALSE(copy == j);
    EXPECT_THROW(j.at("absent"), Error);
}

TEST(JsonDump, AsPythonDoes) {
    // python3 -c "import json; print(json.dumps([...], ensure_ascii=False))"
    Json j = Json::array();
    for (double v : {1.0, 0.1, 1e-6, 0.0001, 0.00001234, 1e15, 1e16, 123456.789, -2.5e-10, 1.0 / 3, 100000.0,
                     1.7976931348623157e308, 5e-324})
        j.push(v);
    EXPECT_EQ(j.dump(),
              "[1.0, 0.1, 1e-06, 0.0001, 1.234e-05, 1000000000000000.0, 1e+16, 123456.789, -2.5e-10, "
              "0.3333333333333333, 100000.0, "
              "1.7976931348623157e+308, 5e-324]");
    Json o = Json::object();
    o.set("text", "a\"\\\b\f\n\r\t\x01/\x7F你");
    o.set("list", Json::array());
    o.set("none", Json());
    EXPECT_EQ(o.dump(), "{\"text\": \"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001/\x7F你\", \"list\": [], \"none\": null}");
    EXPECT_EQ(o.dump(-1, false), "{\"text\":\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001/\x7F你\",\"list\":[],\"none\":null}");
    Json nested = Json::object();
    nested.set("a", Json::parse("[1,{\"b\":2}]", "t"));
    EXPECT_EQ(nested.dump(1), "{\n \"a\": [\n  1,\n  {\n   \"b\": 2\n  }\n ]\n}");
    EXPECT_THROW(Json(std::numeric_limits<double>::quiet_NaN()).dump(), Error);
    EXPECT_EQ(Json::parse(o.dump(2), "t"), o);
}

TEST(JsonValue, ComparesNumbersByValue) {
    EXPECT_EQ(Json(1), Json(uint64_t{1}));
    EXPECT_EQ(Json(1), Json(1.0));
    EXPECT_FALSE(Json(-1) == Json(UINT64_MAX));
    EXPECT_FALSE(Json(1) == Json("1"));
    EXPECT_EQ(Json::parse("{\"a\":1,\"b\":2}", "t"), Json::parse("{\"b\":2,\"a\":1}", "t"));
    EXPECT_THROW(Json("x").as_int(), Error);
}

}  // namespace
}  // namespace vitrine
