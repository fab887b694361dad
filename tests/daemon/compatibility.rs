//! What fields change of the answers of a real model.

use std::fs;

use serde_json::{Value, json};

use crate::clients::run_with;
use crate::field_cases::{Case, base, case};
use crate::harness::{Daemon, Engine, Setup, ok};
use crate::proof::Proof;
use crate::real_models::real_model;

const SAMPLERS: &str = "temperature dynatemp_range dynatemp_exponent top_k top_p min_p typical_p \
    top_n_sigma xtc_probability xtc_threshold min_keep repeat_penalty repeat_last_n \
    presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length \
    dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau mirostat_eta adaptive_target \
    adaptive_decay samplers ignore_eos seed";
const CHATS: &str = "POST /v1/chat/completions";
const INPUT_TOKENS: &str =
    "POST /chat/completions/input_tokens, POST /v1/chat/completions/input_tokens";
const RENDER: &str = "POST /apply-template, POST /chat/completions/input_tokens, \
    POST /v1/chat/completions/input_tokens";
const COUNT: &str = "POST /v1/messages/count_tokens";
const TEXTS: &str = "POST /v1/completions, POST /completion, POST /completions";

/// Status and answer, without what differs in any case.
fn post(daemon: &Daemon, path: &str, request: &Value) -> (String, Value) {
    let body = request.to_string();
    let said = ok(&daemon.curl(path, &["-w", "\n%{http_code}", "-d", &body]));
    let (body, status) = said.rsplit_once('\n').unwrap();
    let mut answer: Value = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    if let Value::Object(fields) = &mut answer {
        for volatile in [
            "id",
            "created",
            "timings",
            "usage",
            "generation_settings",
            "tokens_cached",
        ] {
            fields.remove(volatile);
        }
    }
    (status.into(), answer)
}

/// What a request is answered without a field, and with it.
fn both(daemon: &Daemon, path: &str, name: &str) -> [(String, Value); 2] {
    let Case { value, with, .. } = case(path, name);
    let mut request = base(path);
    for (name, value) in with.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    let before = post(daemon, path, &request);
    request[name] = value;
    [before, post(daemon, path, &request)]
}

/// Each field changes the answer.
fn changes(proof: Proof, daemon: &Daemon) {
    for (path, name) in proof.each() {
        let [before, after] = both(daemon, path, name);
        assert_eq!(before.0, "200", "{path}: {name}: {before:?}");
        assert_ne!(before, after, "{path}: {name}");
    }
}

/// No field changes the answer.
fn changes_nothing(proof: Proof, daemon: &Daemon) {
    for (path, name) in proof.each() {
        let [before, after] = both(daemon, path, name);
        assert_eq!(before.0, "200", "{path}: {name}: {before:?}");
        assert_eq!(before, after, "{path}: {name}");
    }
}

/// The text of a prompt of this many words.
fn words(count: usize) -> String {
    "word ".repeat(count)
}

#[test]
fn fields_of_prompts_change_them() {
    let daemon = Daemon::real();
    let fields = proves!(RENDER, "model tools");
    changes(fields, &daemon);
    let template = proves!("POST /apply-template", "messages continue_final_message");
    changes(template, &daemon);
    changes(proves!(COUNT, "model tools system"), &daemon);
    for (path, name) in proves!(RENDER, "messages")
        .each()
        .chain(proves!(COUNT, "messages").each())
    {
        let long = json!({name: [{"role": "user", "content": words(50)}]});
        assert_ne!(
            post(&daemon, path, &base(path)),
            post(&daemon, path, &long),
            "{path}"
        );
    }
    for (path, name) in proves!(INPUT_TOKENS, "continue_final_message").each() {
        let [open, continued] = both(&daemon, path, name);
        let tokens = |answer: &Value| answer["input_tokens"].as_u64().unwrap();
        assert!(tokens(&continued.1) < tokens(&open.1), "{path}");
    }
}

#[test]
fn other_fields_do_not_change_prompts() {
    let daemon = Daemon::real();
    changes_nothing(proves!(RENDER, SAMPLERS, "no effect"), &daemon);
    changes_nothing(proves!(COUNT, SAMPLERS, "no effect"), &daemon);
    let others = proves!(
        RENDER,
        "stream stop priority stream_options max_tokens max_completion_tokens n logit_bias \
         truncation lora cache_prompt reproducible reasoning_budget response_format json_schema \
         additional_properties grammar regex lark tool_choice parallel_tool_calls logprobs \
         top_logprobs n_probs n_predict reasoning_format timings_per_token return_progress \
         tool_call_mode shared_messages user prompt_cache_key safety_identifier service_tier \
         store metadata verbosity",
        "no effect"
    );
    changes_nothing(others, &daemon);
    let others = proves!(
        COUNT,
        "stream stop priority max_tokens stop_sequences tool_choice output_format \
         metadata service_tier cache_control container mcp_servers",
        "no effect"
    );
    changes_nothing(others, &daemon);
    // A prompt that is too long is not shortened.
    let mut long = base("/apply-template");
    long["messages"] = json!(vec![json!({"role": "user", "content": words(3000)}); 3]);
    let whole = post(&daemon, "/apply-template", &long);
    long["truncation"] = "auto".into();
    assert_eq!(whole, post(&daemon, "/apply-template", &long));
}

/// A text that is continued has no messages and no template.
#[test]
fn fields_of_templates_do_not_change_completions() {
    let daemon = Daemon::real();
    let fields = proves!(
        TEXTS,
        "truncation reasoning_effort reasoning_budget chat_template_kwargs \
         continue_final_message",
        "no effect"
    );
    changes_nothing(fields, &daemon);
    for path in ["/v1/completions", "/completion"] {
        let mut long = json!({"prompt": words(9000)});
        assert_eq!(post(&daemon, path, &long).0, "400", "{path}");
        long["truncation"] = "auto".into();
        assert_eq!(post(&daemon, path, &long).0, "400", "{path}");
    }
}

#[test]
fn fields_of_templates_do_not_change_what_is_filled_in() {
    let Some(model) = real_model("qwen2.5-coder-0.5b") else {
        return;
    };
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ndefault = \"coder\"\ncontext = 4096\n[sampling]\nmax_tokens = 8\n",
        ..Setup::default()
    });
    fs::copy(model, daemon.models().join("coder.gguf")).unwrap();
    let fields = proves!(
        "POST /infill",
        "truncation reasoning_effort reasoning_budget chat_template_kwargs \
         continue_final_message",
        "no effect"
    );
    changes_nothing(fields, &daemon);
}

/// A value of a sampler, and what the request has beside it.
fn sampler(name: &str) -> (Value, Value) {
    let none = json!({});
    let xtc = json!({"xtc_probability": 1, "xtc_threshold": 0.5});
    let any = json!({"dry_allowed_length": 0, "dry_sequence_breakers": ["#"]});
    let dry = json!({"dry_multiplier": 0.8, "dry_allowed_length": 1,
        "dry_sequence_breakers": ["#"]});
    let mirostat = json!({"mirostat": 2});
    let adaptive = json!({"samplers": ["adaptive_p"], "adaptive_target": 0.1});
    match name {
        "temperature" => (json!(0), none),
        "dynatemp_range" => (json!(1.4), none),
        "dynatemp_exponent" => (json!(9), json!({"dynatemp_range": 1.4})),
        "top_k" | "min_p" => (json!(1), none),
        "top_p" | "typical_p" | "top_n_sigma" => (json!(0.01), none),
        "xtc_probability" => (json!(1), json!({"xtc_threshold": 0.01})),
        "xtc_threshold" => (json!(0.01), xtc),
        "min_keep" => (json!(90), json!({"top_p": 0.01})),
        "repeat_penalty" => (json!(9), none),
        "repeat_last_n" => (json!(0), json!({"repeat_penalty": 9})),
        "presence_penalty" | "frequency_penalty" | "mirostat" => (json!(2), none),
        "dry_multiplier" => (json!(9), any),
        "dry_base" => (json!(9), dry),
        "dry_allowed_length" | "dry_penalty_last_n" => (json!(0), dry),
        "dry_sequence_breakers" => (json!(["\n"]), dry),
        "mirostat_tau" => (json!(0.1), mirostat),
        "mirostat_eta" => (json!(5), mirostat),
        "adaptive_target" => (json!(0.9), adaptive),
        "adaptive_decay" => (json!(0), adaptive),
        "samplers" => (json!(["temperature"]), json!({"top_k": 1})),
        "ignore_eos" => (json!(true), json!({"ignore_eos": false})),
        "seed" => (json!(4), none),
        _ => panic!("no value for {name}"),
    }
}

#[test]
fn samplers_change_the_text_of_a_seed() {
    let daemon = Daemon::real();
    let proof = proves!(CHATS, SAMPLERS);
    for (path, name) in proof.each() {
        let (value, with) = sampler(name);
        let mut request = json!({"seed": 3, "temperature": 1.5, "max_tokens": 48,
            "reproducible": true, "ignore_eos": true,
            "messages": [{"role": "user", "content": "Tell me a story, a story, a story."}]});
        for (name, value) in with.as_object().unwrap() {
            request[name] = value.clone();
        }
        let before = post(&daemon, path, &request);
        assert_eq!(
            before,
            post(&daemon, path, &request),
            "{name}: not the same seed's"
        );
        request[name] = value;
        assert_ne!(before, post(&daemon, path, &request), "{name}");
    }
}

#[test]
fn the_table_of_compatibility_is_that_of_the_tests() {
    let update = std::env::var_os("HEARTH_UPDATE").map(|_| "--update");
    run_with("compatibility.py", update.as_slice());
}
