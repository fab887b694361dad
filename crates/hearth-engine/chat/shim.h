/* A C interface to llama.cpp's chat layer (common/chat): JSON in, JSON out. It throws no
 * exception. A returned text is UTF-8, ends with a zero byte, and is freed with
 * hearth_chat_free_text; NULL means out of memory.
 *
 * Replies are {"ok": ...} or {"error": "..."}. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hearth_chat;
struct hearth_chat_parser;

#pragma GCC visibility push(default)

/* Compiles a template; an empty one selects ChatML. `*out` is set where the reply is ok;
 * the reply contains the template's capabilities: {"supports_tools": true, ...}. */
char * hearth_chat_new(const char * source, size_t source_len, const char * bos, size_t bos_len,
                       const char * eos, size_t eos_len, struct hearth_chat ** out);
void   hearth_chat_free(struct hearth_chat * chat);

/* Renders a request: messages and tools in OpenAI's format, and options (see shim.cpp). */
char * hearth_chat_render(const struct hearth_chat * chat, const char * request, size_t len);

/* A parser of one answer; `params` is what hearth_chat_render returned. */
char * hearth_chat_parser_new(const char * params, size_t len, struct hearth_chat_parser ** out);
void   hearth_chat_parser_free(struct hearth_chat_parser * parser);

/* Parses an answer, or its beginning: {"content", "reasoning", "tool_calls": [...]}. */
char * hearth_chat_parse(const struct hearth_chat_parser * parser, const char * text, size_t len,
                         bool is_partial);

void hearth_chat_free_text(char * text);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
