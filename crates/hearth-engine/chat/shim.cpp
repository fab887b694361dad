#include "shim.h"

#include "chat.h"
#include "json.h"
#include "log.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

using json = common_json;

struct hearth_chat {
    common_chat_templates_ptr templates;
};

struct hearth_chat_parser {
    common_chat_parser_params params;
};

static thread_local std::time_t request_time = 0;

std::time_t hearth_chat_time() {
    return request_time;
}

// malloc, because the caller frees it with hearth_chat_free_text.
static char * give(const std::string & text) noexcept {
    char * out = static_cast<char *>(std::malloc(text.size() + 1));
    if (out != nullptr) {
        std::memcpy(out, text.c_str(), text.size() + 1);
    }
    return out;
}

template <typename Run> static char * guarded(Run run) noexcept {
    try {
        std::string error;
        try {
            return give(json{ { "ok", run() } }.dump_safe());
        } catch (const std::exception & e) {
            error = e.what();
        } catch (...) {
            error = "unknown exception";
        }
        return give(json{ { "error", error } }.dump_safe());
    } catch (...) {
        return nullptr;
    }
}

static std::string formatted(std::time_t at, const char * format) {
    std::tm local = {};
    localtime_r(&at, &local);
    char text[64];
    return std::string(text, std::strftime(text, sizeof(text), format, &local));
}

static common_chat_templates_inputs inputs_of(const json & request) {
    common_chat_templates_inputs inputs;
    inputs.messages               = common_chat_msgs_parse_oaicompat(request.at("messages"));
    inputs.tools                  = common_chat_tools_parse_oaicompat(request.value("tools", json()));
    inputs.tool_choice            = common_chat_tool_choice_parse_oaicompat(request.value("tool_choice", "auto"));
    inputs.parallel_tool_calls    = request.value("parallel_tool_calls", false);
    inputs.enable_thinking        = request.value("enable_thinking", true);
    inputs.reasoning_format       = COMMON_REASONING_FORMAT_DEEPSEEK;
    inputs.continue_final_message = common_chat_continuation_parse(request.value("continue_final_message", json()));
    inputs.now                    = std::chrono::system_clock::from_time_t(request_time);
    // The layer would set these from the system clock.
    inputs.chat_template_kwargs["datetime"]    = json::make(formatted(request_time, "%b %d %Y")).dump();
    inputs.chat_template_kwargs["date_string"] = json::make(formatted(request_time, "%d %b %Y")).dump();
    if (request.contains("chat_template_kwargs")) {
        for (const auto & [key, value] : request.at("chat_template_kwargs").items()) {
            inputs.chat_template_kwargs[key] = value.dump();
        }
    }
    return inputs;
}

static json rendered(const common_chat_params & params) {
    json triggers = json::array();
    for (const auto & trigger : params.grammar_triggers) {
        const bool is_word = trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD;
        triggers.push_back({ { "type", is_word ? "word" : "pattern" }, { "value", trigger.value } });
    }
    return json{
        { "prompt", params.prompt },
        { "format", (int) params.format },
        { "parser", params.parser },
        { "generation_prompt", params.generation_prompt },
        { "grammar", params.grammar },
        { "grammar_triggers", triggers },
        { "preserved_tokens", params.preserved_tokens },
        { "additional_stops", params.additional_stops },
        { "supports_thinking", params.supports_thinking },
        { "thinking_start_tag", params.thinking_start_tag },
        { "thinking_end_tags", params.thinking_end_tags },
    };
}

char * hearth_chat_new(const char * source, size_t source_len, const char * bos, size_t bos_len,
                       const char * eos, size_t eos_len, hearth_chat ** out) {
    return guarded([&] {
        // The log is for llama.cpp's own tools; errors are reported as exceptions.
        common_log_set_verbosity_thold(-1);
        // Without a model a template is required; this name selects a built-in one.
        const std::string given(source, source_len);
        auto templates = common_chat_templates_init(nullptr, given.empty() ? "chatml" : given,
                                                    std::string(bos, bos_len), std::string(eos, eos_len));
        json caps = common_chat_templates_get_caps(templates.get());
        *out = new hearth_chat{ std::move(templates) };
        return caps;
    });
}

void hearth_chat_free(hearth_chat * chat) {
    delete chat;
}

char * hearth_chat_render(const hearth_chat * chat, const char * request, size_t len) {
    return guarded([&] {
        const json input = json::parse(std::string(request, len));
        request_time     = (std::time_t) input.at("now").get<int64_t>();
        return rendered(common_chat_templates_apply(chat->templates.get(), inputs_of(input)));
    });
}

char * hearth_chat_parser_new(const char * params, size_t len, hearth_chat_parser ** out) {
    return guarded([&] {
        const json                input = json::parse(std::string(params, len));
        common_chat_parser_params result;
        result.format            = (common_chat_format) input.at("format").get<int>();
        result.reasoning_format  = COMMON_REASONING_FORMAT_DEEPSEEK;
        result.generation_prompt = input.at("generation_prompt").get<std::string>();
        const auto parser        = input.value("parser", "");
        if (!parser.empty()) {
            result.parser.load(parser);
        }
        *out = new hearth_chat_parser{ std::move(result) };
        return json(nullptr);
    });
}

void hearth_chat_parser_free(hearth_chat_parser * parser) {
    delete parser;
}

char * hearth_chat_parse(const hearth_chat_parser * parser, const char * text, size_t len, bool is_partial) {
    return guarded([&] {
        const common_chat_msg msg   = common_chat_parse(std::string(text, len), is_partial, parser->params);
        json                  calls = json::array();
        for (const auto & call : msg.tool_calls) {
            calls.push_back({ { "name", call.name }, { "arguments", call.arguments }, { "id", call.id } });
        }
        return json{
            { "content", msg.render_content() },
            { "reasoning", msg.reasoning_content },
            { "tool_calls", calls },
        };
    });
}

void hearth_chat_free_text(char * text) {
    std::free(text);
}
