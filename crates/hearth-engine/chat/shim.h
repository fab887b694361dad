/* llama.cpp's chat layer (common/chat) for other languages: JSON in, JSON out. No
 * exception leaves it. A returned text is UTF-8, ends with a zero byte, and is freed by
 * hearth_chat_free_text; NULL means that memory ran out.
 *
 * Answers are {"ok": ...} or {"error": "..."}. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hearth_chat;
struct hearth_chat_parser;

#pragma GCC visibility push(default)

/* Compiles a template; an empty one is ChatML. `*out` is set where the answer is ok,
 * which holds what the template can do: {"supports_tools": true, ...}. */
char * hearth_chat_new(const char * source, size_t source_len, const char * bos, size_t bos_len,
                       const char * eos, size_t eos_len, struct hearth_chat ** out);
void   hearth_chat_free(struct hearth_chat * chat);

/* Renders a request: messages and tools in OpenAI's form, and options (see shim.cpp). */
char * hearth_chat_render(const struct hearth_chat * chat, const char * request, size_t len);

/* A parser of one answer; `params` is what hearth_chat_render gave. */
char * hearth_chat_parser_new(const char * params, size_t len, struct hearth_chat_parser ** out);
void   hearth_chat_parser_free(struct hearth_chat_parser * parser);

/* Reads an answer, or its beginning: {"content", "reasoning", "tool_calls": [...]}. */
char * hearth_chat_parse(const struct hearth_chat_parser * parser, const char * text, size_t len,
                         bool is_partial);

void hearth_chat_free_text(char * text);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
