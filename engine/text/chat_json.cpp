// Messages as JSON.
#include "engine/text/chat_json.h"

#include <algorithm>

#include "engine/base/error.h"

namespace vitrine::text {
namespace {

class Reader {
  public:
    explicit Reader(const std::string& file) : file_(file) {}

    [[noreturn]] void wrong(const std::string& key, const Json& v, std::string expected) const {
        const bool is_container = v.is_array() || v.is_object();
        throw Error(ErrorKind::bad_input,
                    Issue{file_, key, is_container ? v.type_name() : v.dump(), std::move(expected), v.where()}.to_string());
    }
    void only(const std::string& key, const Json& object, const std::vector<std::string>& known) const {
        if (!object.is_object()) wrong(key, object, "expected an object");
        for (const auto& [k, v] : object.members()) {
            if (std::find(known.begin(), known.end(), k) != known.end()) continue;
            const std::string near = nearest_name(k, known);
            wrong(key.empty() ? k : key + "." + k, v, "unknown key" + (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
        }
    }
    // null is as good as absent.
    const Json* find(const Json& object, const char* name) const {
        const Json* v = object.find(name);
        return v && !v->is_null() ? v : nullptr;
    }
    std::string text(const std::string& key, const Json& object, const char* name) const {
        const Json* v = find(object, name);
        if (v && !v->is_string()) wrong(key + "." + name, *v, "expected a text");
        return v ? v->as_string() : "";
    }
    const Json::Array& list(const std::string& key, const Json& v) const {
        if (!v.is_array()) wrong(key, v, "expected a list");
        return v.items();
    }

    Message message(const std::string& key, const Json& j) const {
        only(key, j, {"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "tools", "response_format", "task",
                      "wo_eos"});
        Message m;
        const Json* role = find(j, "role");
        if (!role || !role->is_string()) wrong(key + ".role", role ? *role : j, "expected a role");
        try {
            m.role = role_from_name(role->as_string());
        } catch (const Error&) {
            wrong(key + ".role", *role, "expected system, developer, user, assistant, tool or latest_reminder");
        }
        const Json* content = find(j, "content");
        if (content && content->is_array()) m.parts = parts(key + ".content", *content);
        else m.content = text(key, j, "content");
        m.reasoning = text(key, j, "reasoning_content");
        m.tool_call_id = text(key, j, "tool_call_id");
        m.task = text(key, j, "task");
        if (const Json* calls = find(j, "tool_calls"))
            for (const Json& c : list(key + ".tool_calls", *calls))
                m.tool_calls.push_back(call(key + ".tool_calls[" + std::to_string(m.tool_calls.size()) + "]", c));
        if (const Json* tools = find(j, "tools")) m.tools = this->tools(key + ".tools", *tools);
        if (const Json* format = find(j, "response_format")) m.response_format = *format;
        if (const Json* v = find(j, "wo_eos")) {
            if (!v->is_bool()) wrong(key + ".wo_eos", *v, "expected true or false");
            m.wo_eos = v->as_bool();
        }
        return m;
    }
    std::vector<Json> tools(const std::string& key, const Json& j) const {
        std::vector<Json> out;
        for (const Json& t : list(key, j)) {
            const std::string at = key + "[" + std::to_string(out.size()) + "]";
            if (!t.is_object()) wrong(at, t, "expected an object");
            if (const Json* f = t.find("function"); f && !f->is_object()) wrong(at + ".function", *f, "expected an object");
            out.push_back(t);
        }
        return out;
    }

  private:
    std::vector<ContentPart> parts(const std::string& key, const Json& j) const {
        std::vector<ContentPart> out;
        for (const Json& p : j.items()) {
            const std::string at = key + "[" + std::to_string(out.size()) + "]";
            if (!p.is_object() || !find(p, "type")) wrong(at, p, "expected an object with a type");
            ContentPart part{text(at, p, "type"), ""};
            if (part.type == "text") part.text = text(at, p, "text");
            out.push_back(std::move(part));
        }
        return out;
    }
    ToolCall call(const std::string& key, const Json& j) const {
        only(key, j, {"id", "type", "function", "index"});
        const Json* f = find(j, "function");
        if (!f) wrong(key, j, "expected a function with name and arguments");
        only(key + ".function", *f, {"name", "arguments"});
        ToolCall c;
        c.id = text(key, j, "id");
        c.name = text(key + ".function", *f, "name");
        if (c.name.empty()) wrong(key + ".function", *f, "expected a name");
        const Json* arguments = find(*f, "arguments");
        c.arguments = !arguments ? "{}" : arguments->is_object() ? arguments->dump() : text(key + ".function", *f, "arguments");
        return c;
    }
    const std::string& file_;
};

}  // namespace

std::vector<Message> messages_from_json(const Json& j, const std::string& file) {
    const Reader r(file);
    const Json *list = &j, *tools = nullptr;
    std::string prefix;
    if (j.is_object()) {
        r.only("", j, {"messages", "tools"});
        list = j.find("messages"), tools = r.find(j, "tools"), prefix = "messages";
        if (!list) r.wrong("", j, "expected messages");
    }
    if (!list->is_array() || list->size() == 0) r.wrong(prefix, *list, "expected a list of messages");
    std::vector<Message> messages;
    for (const Json& m : list->items()) messages.push_back(r.message(prefix + "[" + std::to_string(messages.size()) + "]", m));
    if (tools) {
        if (!messages[0].tools.empty()) r.wrong("tools", *tools, "expected them here or in the first message");
        messages[0].tools = r.tools("tools", *tools);
    }
    return messages;
}

Json tool_calls_to_json(const std::vector<ToolCall>& calls) {
    Json list = Json::array();
    for (const ToolCall& c : calls) {
        Json f = Json::object(), call = Json::object();
        f.set("name", c.name);
        f.set("arguments", c.arguments);
        call.set("type", "function");
        call.set("function", std::move(f));
        list.push(std::move(call));
    }
    return list;
}

}  // namespace vitrine::text
