//! A value for each field of the HTTP APIs, and what it changes.

use serde_json::{Value, json};

/// What a field changes.
#[derive(Debug)]
pub enum Effect {
    /// The engine is asked this, at this place of the request.
    Asks(String, Value),
    /// The engine is asked something else at this place.
    Changes(&'static str),
    /// The answer has this at this place.
    Answers(&'static str, Value),
    /// The answer has something else at this place.
    Differs(&'static str),
    /// The answer has this media type.
    Type(&'static str),
    /// The stream has this more often.
    More(&'static str),
    /// The status is not 200.
    Status(u16),
    /// Nothing: there is no such effect here.
    Nothing,
}

/// A field's value.
#[derive(Debug)]
pub struct Case {
    pub value: Value,
    /// What the request has beside it, without the field, too.
    pub with: Value,
    pub effect: Effect,
}

fn field(value: Value, effect: Effect) -> Case {
    beside(json!({}), value, effect)
}

fn beside(with: Value, value: Value, effect: Effect) -> Case {
    Case {
        value,
        with,
        effect,
    }
}

/// A request that has what it needs and nothing more, and is answered at once.
pub fn base(path: &str) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    match path {
        "/v1/completions" | "/completion" | "/completions" => json!({"prompt": "Hi", "seed": 7}),
        "/v1/responses" | "/responses" => json!({"input": "Hi", "seed": 7}),
        "/v1/messages" => json!({"messages": messages, "max_tokens": 50, "seed": 7}),
        "/infill" => json!({"input_prefix": "Hi", "input_suffix": "x", "seed": 7}),
        "/api/chat" => json!({"messages": messages, "stream": false, "options": {"seed": 7}}),
        "/api/generate" => json!({"prompt": "Hi", "stream": false, "options": {"seed": 7}}),
        "/api/embed" | "/v1/embeddings" | "/embeddings" => json!({"input": "Hi there"}),
        "/api/embeddings" => json!({"prompt": "Hi there"}),
        "/embedding" | "/tokenize" => json!({"content": "Hi"}),
        "/detokenize" => json!({"tokens": [72, 105]}),
        "/v1/rerank" | "/v1/reranking" | "/rerank" | "/reranking" => {
            json!({"query": "lamp", "documents": ["map", "lamp"]})
        }
        _ => json!({"messages": messages, "seed": 7}),
    }
}

/// The value of a field of an endpoint, and what it changes.
pub fn case(path: &str, name: &str) -> Case {
    let option = name.rsplit('.').next().unwrap_or(name);
    let known = of_endpoint(path, option);
    let known = known.or_else(|| sampler(option)).or_else(|| common(option));
    let known = known
        .or_else(|| constraint(option))
        .or_else(|| tools(option))
        .or_else(|| texts(option))
        .or_else(|| ignored(option));
    known.unwrap_or_else(|| panic!("no case for {name} of {path}"))
}

/// Options that go to the engine as they are.
fn sampler(name: &str) -> Option<Case> {
    let value = match name {
        "top_p" | "min_p" | "typical_p" | "xtc_probability" | "xtc_threshold"
        | "adaptive_target" | "adaptive_decay" => json!(0.25),
        "temperature" | "dynatemp_range" | "dynatemp_exponent" | "top_n_sigma"
        | "repeat_penalty" | "presence_penalty" | "frequency_penalty" | "dry_multiplier"
        | "dry_base" | "mirostat_tau" | "mirostat_eta" => json!(1.25),
        "top_k" | "min_keep" | "repeat_last_n" | "dry_allowed_length" | "dry_penalty_last_n" => {
            json!(9)
        }
        "mirostat" => json!(2),
        "seed" => json!(11),
        "dry_sequence_breakers" => json!(["#"]),
        "samplers" => json!(["top_k"]),
        "ignore_eos" => json!(true),
        _ => return None,
    };
    let at = format!("/sampling/{name}");
    Some(field(value.clone(), Effect::Asks(at, value)))
}

/// Options of several APIs.
fn common(name: &str) -> Option<Case> {
    let asks = |at: &str, value: Value| Effect::Asks(at.into(), value);
    let five = || asks("/max_tokens", json!(5));
    Some(match name {
        "model" => field(json!("nope"), Effect::Status(404)),
        "stream" => field(json!(true), Effect::Type("text/event-stream")),
        "stop" | "stop_sequences" => field(json!(["#"]), asks("/stop", json!(["#"]))),
        "priority" => field(json!("background"), asks("/priority", json!("background"))),
        "max_tokens"
        | "max_completion_tokens"
        | "max_output_tokens"
        | "n_predict"
        | "num_predict" => field(json!(5), five()),
        "num_ctx" => field(json!(99), asks("/context_max", json!(99))),
        "n" => field(json!(2), Effect::Answers("/choices/1/index", json!(1))),
        "logit_bias" => field(json!({"7": 5}), Effect::Changes("/sampling/logit_bias")),
        "shared_messages" => field(json!(1), asks("/shared_messages", json!(1))),
        "tool_call_mode" => field(json!("lenient"), asks("/call_mode", json!("lenient"))),
        "truncation" => field(json!("auto"), Effect::Changes("/overflow")),
        "truncate" => field(json!(false), Effect::Changes("/overflow")),
        "lora" => {
            let adapters = json!([{"name": "tone", "scale": 0.5}]);
            field(adapters, asks("/lora/0/scale", json!(0.5)))
        }
        "cache_prompt" => field(json!(false), Effect::Changes("/reuse")),
        "reproducible" => field(json!(true), Effect::Changes("/reuse")),
        "reasoning_effort" | "think" => field(json!("high"), Effect::Changes("/thinking")),
        "reasoning" => field(json!({"effort": "high"}), Effect::Changes("/thinking")),
        "reasoning_budget" => field(json!(5), asks("/reasoning_budget", json!(5))),
        "reasoning_format" => field(json!("none"), Effect::Changes("/reasoning_format")),
        "chat_template_kwargs" => {
            let kwargs = json!({"a": 1});
            field(kwargs.clone(), asks("/chat_template_kwargs", kwargs))
        }
        "stream_options" => beside(
            json!({"stream": true}),
            json!({"include_usage": true}),
            Effect::More("completion_tokens\""),
        ),
        "timings_per_token" => beside(
            json!({"stream": true}),
            json!(true),
            Effect::More("predicted_ms"),
        ),
        "return_progress" => beside(
            json!({"stream": true}),
            json!(true),
            Effect::More("prompt_progress"),
        ),
        "n_probs" => field(json!(3), asks("/logprobs", json!(3))),
        "logprobs" => field(json!(true), asks("/logprobs", json!(0))),
        "top_logprobs" => beside(
            json!({"logprobs": true}),
            json!(3),
            asks("/logprobs", json!(3)),
        ),
        _ => return None,
    })
}

/// Fields that are accepted for the sake of clients.
fn ignored(name: &str) -> Option<Case> {
    Some(match name {
        "num_keep" | "num_batch" | "num_gpu" | "main_gpu" | "num_thread" => {
            field(json!(3), Effect::Nothing)
        }
        "use_mmap" => field(json!(false), Effect::Nothing),
        "user" | "prompt_cache_key" | "safety_identifier" | "service_tier" | "verbosity"
        | "container" => field(json!("x"), Effect::Nothing),
        "id_slot" | "n_keep" | "t_max_predict_ms" => field(json!(0), Effect::Nothing),
        "store" => field(json!(true), Effect::Nothing),
        "metadata" => field(json!({"a": "b"}), Effect::Nothing),
        "cache_control" => field(json!({"type": "ephemeral"}), Effect::Nothing),
        "include" | "mcp_servers" => field(json!([]), Effect::Nothing),
        _ => return None,
    })
}

/// Fields of endpoints that compute tokens, vectors and scores.
fn texts(name: &str) -> Option<Case> {
    Some(match name {
        "add_special" => field(json!(true), Effect::Changes("/tokenize/bos")),
        "parse_special" => field(json!(false), Effect::Changes("/tokenize/plain")),
        "with_pieces" => field(json!(true), Effect::Differs("/tokens/0")),
        "tokens" => field(json!([72]), Effect::Differs("/content")),
        "content" => field(json!("Ho"), Effect::Differs("")),
        "query" => field(json!("map"), Effect::Differs("/results")),
        "documents" => field(json!(["lamp"]), Effect::Differs("/results")),
        "top_n" => field(json!(1), Effect::Differs("/results")),
        "return_documents" => field(json!(true), Effect::Differs("/results/0/document")),
        "encoding_format" => field(json!("base64"), Effect::Differs("/data/0/embedding")),
        "embd_normalize" => field(json!(0), Effect::Status(400)),
        _ => return None,
    })
}

fn constraint(name: &str) -> Option<Case> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let form = json!({"type": "json_schema", "schema": schema});
    let value = match name {
        "response_format" => json!({"type": "json_schema", "json_schema": {"schema": schema}}),
        "json_schema" | "format" => schema,
        "additional_properties" => {
            let with = json!({"json_schema": schema});
            return Some(beside(with, json!(true), Effect::Changes("/constraint")));
        }
        "text" | "output_config" => json!({"format": form}),
        "output_format" => form,
        "grammar" => json!("root ::= \"a\""),
        "regex" => json!("a+"),
        "lark" => json!("start: \"a\""),
        _ => return None,
    };
    Some(field(value, Effect::Changes("/constraint")))
}

fn tools(name: &str) -> Option<Case> {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    Some(match name {
        "tools" => field(tools, Effect::Changes("/prompt")),
        "tool_choice" => beside(
            json!({"tools": tools}),
            json!("required"),
            Effect::Changes("/tool_choice"),
        ),
        "parallel_tool_calls" => beside(
            json!({"tools": tools}),
            json!(false),
            Effect::Changes("/one_call"),
        ),
        "messages" => {
            let other = json!([{"role": "user", "content": "Ho"}]);
            field(other, Effect::Changes("/prompt"))
        }
        "continue_final_message" => beside(
            json!({"messages": [{"role": "user", "content": "Hi"},
                                {"role": "assistant", "content": "Ho"}]}),
            json!(true),
            Effect::Changes("/continue_final_message"),
        ),
        "instructions" | "system" => field(json!("Be brief."), Effect::Changes("/prompt")),
        "suffix" => field(json!("x"), Effect::Changes("/prompt")),
        "input_prefix" | "input_suffix" | "input" | "prompt" => {
            field(json!("Ho"), Effect::Changes("/prompt"))
        }
        _ => return None,
    })
}

/// Fields that an endpoint reads in its own way.
fn of_endpoint(path: &str, name: &str) -> Option<Case> {
    match path {
        "/api/chat" | "/api/generate" | "/api/embed" | "/api/embeddings" => ollama(path, name),
        "/completion" | "/completions" | "/infill" => native(path, name),
        "/v1/responses" | "/responses" => responses(name),
        "/v1/messages" | "/v1/messages/count_tokens" => anthropic(path, name),
        _ => openai(path, name),
    }
}

fn openai(path: &str, name: &str) -> Option<Case> {
    let asks = |at: &str, value: Value| Effect::Asks(at.into(), value);
    Some(match (path, name) {
        ("/v1/completions", "logprobs") => field(json!(3), asks("/logprobs", json!(3))),
        ("/v1/completions", "echo") => field(
            json!(true),
            Effect::Answers("/choices/0/text", json!("HiHi")),
        ),
        ("/v1/completions", "best_of") => field(
            json!(3),
            Effect::Answers("/usage/completion_tokens", json!(6)),
        ),
        ("/v1/embeddings" | "/embeddings", "input") => field(json!("Ho"), Effect::Differs("/data")),
        ("/v1/embeddings" | "/embeddings", "dimensions") => {
            field(json!(3), Effect::Differs("/data"))
        }
        _ => return None,
    })
}

fn responses(name: &str) -> Option<Case> {
    Some(match name {
        "metadata" => field(
            json!({"a": "b"}),
            Effect::Answers("/metadata", json!({"a": "b"})),
        ),
        "tools" => field(
            json!([{"type": "function", "name": "f"}]),
            Effect::Changes("/prompt"),
        ),
        "tool_choice" | "parallel_tool_calls" => Case {
            with: json!({"tools": [{"type": "function", "name": "f"}]}),
            ..tools(name)?
        },
        "background" => field(json!(true), Effect::Status(400)),
        "user" => field(json!("x"), Effect::Answers("/user", json!("x"))),
        "store" => field(json!(true), Effect::Nothing),
        "previous_response_id" | "conversation" | "prompt" => {
            field(json!("x"), Effect::Status(400))
        }
        _ => return None,
    })
}

fn anthropic(path: &str, name: &str) -> Option<Case> {
    let asks = |at: &str, value: Value| Effect::Asks(at.into(), value);
    Some(match (path, name) {
        ("/v1/messages/count_tokens", "output_config") => beside(
            json!({"thinking": {"type": "enabled"}}),
            json!({"effort": "high"}),
            Effect::Changes("/thinking"),
        ),
        ("/v1/messages/count_tokens", "thinking") => {
            field(json!({"type": "enabled"}), Effect::Changes("/thinking"))
        }
        ("/v1/messages" | "/v1/messages/count_tokens", "tools") => field(
            json!([{"name": "f", "input_schema": {}}]),
            Effect::Changes("/prompt"),
        ),
        ("/v1/messages" | "/v1/messages/count_tokens", "tool_choice") => beside(
            json!({"tools": [{"name": "f", "input_schema": {}}]}),
            json!({"type": "any"}),
            Effect::Changes("/tool_choice"),
        ),
        ("/v1/messages", "thinking") => field(
            json!({"type": "enabled", "budget_tokens": 9}),
            asks("/reasoning_budget", json!(9)),
        ),
        _ => return None,
    })
}

fn native(path: &str, name: &str) -> Option<Case> {
    let asks = |at: &str, value: Value| Effect::Asks(at.into(), value);
    Some(match (path, name) {
        ("/completion" | "/completions", "n") => {
            field(json!(2), Effect::Answers("/1/index", json!(1)))
        }
        ("/infill", "n") => field(json!(2), Effect::Status(400)),
        ("/completion" | "/completions", "logprobs") => {
            field(json!(3), asks("/logprobs", json!(3)))
        }
        ("/completion" | "/completions", "post_sampling_probs") => {
            field(json!(true), Effect::Status(400))
        }
        ("/completion" | "/completions" | "/infill", "return_tokens") => {
            field(json!(true), Effect::Answers("/tokens", json!([1, 2])))
        }
        ("/completion" | "/completions", "response_fields") => field(
            json!(["content"]),
            Effect::Answers("", json!({"content": "Hi"})),
        ),
        ("/infill", "input_extra") => field(json!([{"text": "x"}]), Effect::Changes("/prompt")),
        _ => return None,
    })
}

fn ollama(path: &str, name: &str) -> Option<Case> {
    let asks = |at: &str, value: Value| Effect::Asks(at.into(), value);
    Some(match (path, name) {
        ("/api/chat" | "/api/generate", "stream") => {
            field(json!(true), Effect::Type("application/x-ndjson"))
        }
        ("/api/generate", "raw") => field(json!(true), Effect::Changes("/prompt")),
        ("/api/generate", "context") => field(json!([1, 2]), Effect::Nothing),
        ("/api/generate", "template") => field(json!("{{ .Prompt }}"), Effect::Status(400)),
        ("/api/embed", "input") => field(json!("Ho"), Effect::Differs("/embeddings")),
        ("/api/embed", "prompt") => beside(
            json!({"input": null}),
            json!("Ho"),
            Effect::Differs("/embeddings"),
        ),
        ("/api/embed", "dimensions") => field(json!(3), Effect::Differs("/embeddings")),
        ("/api/embed", "truncate") => field(json!(false), Effect::Changes("/embed/truncate")),
        ("/api/embeddings", "input" | "prompt") => {
            field(json!("Ho"), Effect::Differs("/embedding"))
        }
        ("/api/embeddings", "dimensions") => field(json!(3), Effect::Differs("/embedding")),
        ("/api/embeddings", "truncate") => field(json!(true), Effect::Changes("/embed/truncate")),
        ("/api/chat" | "/api/generate", "logprobs") => {
            field(json!(true), asks("/logprobs", json!(0)))
        }
        _ => return None,
    })
}
