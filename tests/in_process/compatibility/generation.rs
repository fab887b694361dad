//! Endpoints that generate text.

use super::world;

const SAMPLERS: &str = "temperature dynatemp_range dynatemp_exponent top_k top_p min_p typical_p \
    top_n_sigma xtc_probability xtc_threshold min_keep repeat_penalty repeat_last_n \
    presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length \
    dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau mirostat_eta adaptive_target \
    adaptive_decay samplers ignore_eos seed";
const OPTIONS: &str = "options.temperature options.dynatemp_range options.dynatemp_exponent \
    options.top_k options.top_p options.min_p options.typical_p options.top_n_sigma \
    options.xtc_probability options.xtc_threshold options.min_keep options.repeat_penalty \
    options.repeat_last_n options.presence_penalty options.frequency_penalty \
    options.dry_multiplier options.dry_base options.dry_allowed_length \
    options.dry_penalty_last_n options.dry_sequence_breakers options.mirostat \
    options.mirostat_tau options.mirostat_eta options.adaptive_target options.adaptive_decay \
    options.samplers options.ignore_eos options.seed";
const OPENAI: &str = "POST /v1/chat/completions, POST /chat/completions, POST /v1/completions, \
    POST /v1/responses, POST /responses";
const CHATS: &str = "POST /v1/chat/completions, POST /chat/completions";
const TEXTS: &str = "POST /v1/completions";
const RESPONSES: &str = "POST /v1/responses, POST /responses";
const MESSAGES: &str = "POST /v1/messages";
const NATIVE: &str = "POST /completion, POST /completions";
const INFILL: &str = "POST /infill";
const OLLAMA: &str = "POST /api/chat, POST /api/generate";

#[tokio::test(start_paused = true)]
async fn samplers_reach_the_engine() {
    let world = world().await;
    proves!(OPENAI, SAMPLERS).holds(&world).await;
    proves!(MESSAGES, SAMPLERS).holds(&world).await;
    proves!(NATIVE, SAMPLERS).holds(&world).await;
    proves!(INFILL, SAMPLERS).holds(&world).await;
    proves!(OLLAMA, OPTIONS).holds(&world).await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_chats_have_their_effect() {
    let world = world().await;
    proves!(
        CHATS,
        "messages model stream stop priority stream_options max_tokens max_completion_tokens n \
         logit_bias truncation lora cache_prompt reproducible reasoning_effort reasoning_budget \
         chat_template_kwargs continue_final_message response_format json_schema \
         additional_properties grammar regex lark tools tool_choice parallel_tool_calls tool_call_mode \
         shared_messages logprobs \
         top_logprobs n_probs n_predict reasoning_format timings_per_token return_progress"
    )
    .holds(&world)
    .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_completions_have_their_effect() {
    let world = world().await;
    proves!(
        TEXTS,
        "prompt suffix echo best_of logprobs n_probs model stream stop priority stream_options \
         max_tokens max_completion_tokens n logit_bias lora cache_prompt reproducible \
         response_format json_schema additional_properties grammar regex lark"
    )
    .holds(&world)
    .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_responses_have_their_effect() {
    let world = world().await;
    proves!(
        RESPONSES,
        "input instructions model stream stop priority max_output_tokens metadata user tools \
         tool_choice parallel_tool_calls text reasoning truncation"
    )
    .holds(&world)
    .await;
    proves!(RESPONSES, "store", "no effect")
        .changes_nothing(&world)
        .await;
    proves!(
        RESPONSES,
        "previous_response_id conversation prompt background",
        "refused: nothing is stored between requests"
    )
    .is_refused(&world)
    .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_messages_have_their_effect() {
    let world = world().await;
    proves!(
        MESSAGES,
        "messages system model stream priority max_tokens stop_sequences tools tool_choice \
         thinking output_config output_format"
    )
    .holds(&world)
    .await;
    proves!(MESSAGES, "stop", "no effect")
        .changes_nothing(&world)
        .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_native_completions_have_their_effect() {
    let world = world().await;
    proves!(
        NATIVE,
        "prompt n_predict n_probs logprobs return_tokens timings_per_token return_progress \
         response_fields model stream stop priority max_tokens max_completion_tokens n \
         logit_bias lora cache_prompt reproducible response_format json_schema \
         additional_properties grammar regex lark"
    )
    .holds(&world)
    .await;
    proves!(
        NATIVE,
        "post_sampling_probs",
        "refused: probabilities are those before sampling"
    )
    .is_refused(&world)
    .await;
    proves!(
        INFILL,
        "input_prefix input_suffix input_extra prompt n_predict timings_per_token \
         return_progress return_tokens model stream stop priority max_tokens \
         max_completion_tokens logit_bias lora cache_prompt reproducible response_format \
         json_schema additional_properties grammar regex lark"
    )
    .holds(&world)
    .await;
    proves!(
        "POST /completion, POST /completions, POST /infill",
        "stream_options",
        "no effect"
    )
    .changes_nothing(&world)
    .await;
    proves!(INFILL, "n", "refused: there is one answer")
        .is_refused(&world)
        .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_other_services_change_nothing() {
    let world = world().await;
    proves!(
        CHATS,
        "user prompt_cache_key safety_identifier service_tier store metadata verbosity",
        "no effect"
    )
    .changes_nothing(&world)
    .await;
    proves!(TEXTS, "user", "no effect")
        .changes_nothing(&world)
        .await;
    proves!(
        RESPONSES,
        "prompt_cache_key safety_identifier service_tier include",
        "no effect"
    )
    .changes_nothing(&world)
    .await;
    proves!(
        MESSAGES,
        "metadata service_tier cache_control container mcp_servers",
        "no effect"
    )
    .changes_nothing(&world)
    .await;
    proves!(NATIVE, "id_slot n_keep t_max_predict_ms", "no effect")
        .changes_nothing(&world)
        .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_ollamas_chats_have_their_effect() {
    let world = world().await;
    proves!(
        OLLAMA,
        "model stream options.num_predict options.stop options.lora options.num_ctx \
         truncate format think logprobs top_logprobs priority"
    )
    .holds(&world)
    .await;
    proves!("POST /api/chat", "messages tools tool_choice")
        .holds(&world)
        .await;
    proves!("POST /api/generate", "prompt system raw suffix")
        .holds(&world)
        .await;
    proves!(
        OLLAMA,
        "options.num_keep options.num_batch options.num_gpu options.main_gpu options.num_thread \
         options.use_mmap",
        "no effect"
    )
    .changes_nothing(&world)
    .await;
    proves!("POST /api/generate", "context", "no effect")
        .changes_nothing(&world)
        .await;
    proves!(
        "POST /api/generate",
        "template",
        "refused: the file's own template applies"
    )
    .is_refused(&world)
    .await;
}
