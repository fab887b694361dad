use hearth_proto::FailureKind::{self, InvalidArgs, NotSupported};
use serde_json::json;

use super::*;

const GIF: &str = "R0lGODlhAgABAIAAAA==";

fn read_all(body: &Value) -> Result<Conversation, Failure> {
    conversation(body.as_object().unwrap())
}

fn messages(body: &Value) -> Value {
    serde_json::to_value(read_all(body).unwrap().messages).unwrap()
}

/// The message that one with this content becomes.
fn user(content: &Value) -> Result<Message, Failure> {
    let body = json!({"messages": [{"role": "user", "content": content}]});
    Ok(read_all(&body)?.messages.remove(0))
}

fn picture() -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": GIF}})
}

#[test]
fn a_turn_with_tools_becomes_messages() {
    let body = json!({"system": "Be brief.", "messages": [
        {"role": "user", "content": "Fix the bug"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "1", "name": "ls", "input": {"path": "."}},
            {"type": "tool_use", "id": "2", "name": "cat"}]},
        {"role": "user", "content": [
            {"type": "text", "text": "Here they are."},
            {"type": "tool_result", "tool_use_id": "1", "content": "main.py"},
            {"type": "tool_result", "tool_use_id": "2", "is_error": true,
                "content": [{"type": "text", "text": "no file"}]}]}]});
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        messages(&body),
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Fix the bug"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.",
                "tool_calls": [call("1", "ls", json!({"path": "."})), call("2", "cat", json!({}))]},
            {"role": "tool", "content": "main.py", "tool_call_id": "1", "name": "ls"},
            {"role": "tool", "content": "Error: no file", "tool_call_id": "2", "name": "cat"},
            {"role": "user", "content": "Here they are."},
        ])
    );
}

#[test]
fn a_failed_call_says_so_once() {
    let said = |text: &str, is_error: bool| {
        let block = json!({"type": "tool_result", "tool_use_id": "1", "content": text,
            "is_error": is_error});
        user(&json!([block])).unwrap().content
    };
    assert_eq!(said("no file", true), "Error: no file");
    assert_eq!(said("error 7", true), "error 7");
    assert_eq!(said("", true), "Error: ");
    assert_eq!(said("no file", false), "no file");
}

#[test]
fn turns_of_the_same_role_are_one() {
    let body = json!({"messages": [
        {"role": "system", "content": "A"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "system", "content": "d"},
        {"role": "assistant", "content": []},
        {"role": "assistant", "content": "e"}],
        "system": [{"type": "text", "text": "B"}, {"type": "text", "text": "C"}]});
    assert_eq!(
        messages(&body),
        json!([
            {"role": "system", "content": "B\nC\n\nA"},
            {"role": "user", "content": "a\n\nbc\n\nd"},
            {"role": "assistant", "content": "e"},
        ])
    );
    assert!(read_all(&body).unwrap().continues);
}

#[test]
fn what_marks_a_request_of_claude_code_is_removed() {
    let header =
        "x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch=a5145;";
    let body =
        |system: Value| json!({"system": system, "messages": [{"role": "user", "content": "x"}]});
    let expected = json!({"role": "system", "content": "You are Claude Code; be brief."});
    for system in [
        json!(format!("{header}You are Claude Code; be brief.")),
        json!([{"type": "text", "text": header},
            {"type": "text", "text": "You are Claude Code; be brief."}]),
    ] {
        assert_eq!(messages(&body(system))[0], expected);
    }
    let other = messages(&body(json!("a=b;c")));
    assert_eq!(other[0]["content"], "a=b;c");
}

#[test]
fn pictures_stay_in_their_place() {
    let said =
        user(&json!([{"type": "text", "text": "ab"}, picture(), {"type": "text", "text": "c"}]));
    let said = said.unwrap();
    assert_eq!((said.content.as_str(), said.media[0].at), ("abc", 2));
    let result = json!({"type": "tool_result", "tool_use_id": "1", "is_error": true,
        "content": [{"type": "text", "text": "ab"}, picture()]});
    let result = user(&json!([result])).unwrap();
    assert_eq!(
        (result.role.as_str(), result.content.as_str()),
        ("tool", "Error: ab")
    );
    assert_eq!(result.media[0].at, "Error: ab".len());
    let both = json!({"messages": [{"role": "user", "content": "ab"},
        {"role": "user", "content": [picture()]}, {"role": "user", "content": [picture()]}]});
    let both = read_all(&both).unwrap().messages.remove(0);
    let places: Vec<usize> = both.media.iter().map(|media| media.at).collect();
    assert_eq!((both.content.as_str(), places), ("ab", vec![2, 2]));
}

#[test]
fn documents_and_search_results_are_texts() {
    for (block, text) in [
        (
            json!({"type": "document", "title": "T", "context": "C",
                "source": {"type": "text", "media_type": "text/plain", "data": "D"}}),
            "T\n\nC\n\nD\n\n",
        ),
        (
            json!({"type": "document", "source": {"type": "content", "content": "D"}}),
            "D\n\n",
        ),
        (
            json!({"type": "document", "source": {"type": "content", "content": [
                {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}),
            "ab\n\n",
        ),
        (
            json!({"type": "search_result", "title": "T", "source": "S",
                "content": [{"type": "text", "text": "a"}], "citations": {"enabled": true}}),
            "T\n\nS\n\na\n\n",
        ),
    ] {
        assert_eq!(user(&json!([block])).unwrap().content, text, "{block}");
    }
    let inner = json!([{"type": "text", "text": "a"},
        {"type": "document", "source": {"type": "content", "content": [picture()]}}]);
    assert_eq!(user(&inner).unwrap().media[0].at, 1);
}

#[test]
fn blocks_of_tools_that_ran_elsewhere_are_left_out() {
    for kind in [
        "server_tool_use",
        "web_search_tool_result",
        "mcp_tool_use",
        "container_upload",
    ] {
        let content = json!([{"type": kind, "id": "1"}, {"type": "text", "text": "x"}]);
        assert_eq!(user(&content).unwrap().content, "x", "{kind}");
    }
}

#[test]
fn errors_name_the_block() {
    let here = "messages[0].content[0]";
    let source = "messages[0].content[0].source";
    let image = |source: Value| json!([{"type": "image", "source": source}]);
    let document = |source: Value| json!([{"type": "document", "source": source}]);
    for (content, kind, field) in [
        (json!(3), InvalidArgs, "messages[0].content"),
        (json!([3]), InvalidArgs, here),
        (json!([{"text": "x"}]), InvalidArgs, here),
        (json!([{"type": "text"}]), InvalidArgs, here),
        (json!([{"type": "video"}]), NotSupported, here),
        (json!([{"type": "image"}]), InvalidArgs, here),
        (image(json!({})), InvalidArgs, source),
        (
            image(json!({"type": "url", "url": "https://x"})),
            NotSupported,
            source,
        ),
        (image(json!({"type": "base64"})), InvalidArgs, source),
        (
            image(json!({"type": "base64", "data": "aGk="})),
            InvalidArgs,
            "messages[0].content[0].source.data",
        ),
        (
            document(json!({"type": "base64", "data": "aGk="})),
            NotSupported,
            source,
        ),
        (
            document(json!({"type": "file", "file_id": "f"})),
            NotSupported,
            source,
        ),
        (document(json!({"type": "text"})), InvalidArgs, source),
        (document(json!({"type": "content"})), InvalidArgs, source),
        (
            json!([{"type": "tool_use", "name": "f"}]),
            InvalidArgs,
            here,
        ),
        (json!([{"type": "tool_use", "id": "1"}]), InvalidArgs, here),
        (json!([{"type": "tool_result"}]), InvalidArgs, here),
        (json!([{"type": "thinking"}]), InvalidArgs, here),
        (
            json!([{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "tool_use"}]}]),
            NotSupported,
            "messages[0].content[0].content[0]",
        ),
    ] {
        let failure = user(&content).unwrap_err();
        assert_eq!(failure.kind, kind, "{content}: {failure}");
        assert_eq!(
            failure.field.as_deref(),
            Some(field),
            "{content}: {failure}"
        );
    }
}

#[test]
fn errors_name_the_message() {
    for (body, field) in [
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "x"}), "messages"),
        (json!({"messages": [3]}), "messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "messages[0]"),
        (json!({"messages": [{"role": "user"}]}), "messages[0]"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "system": 3}),
            "system",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "system": [picture()]}),
            "system[0]",
        ),
    ] {
        let failure = read_all(&body).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArgs, "{body}");
        assert_eq!(failure.field.as_deref(), Some(field), "{body}: {failure}");
    }
}
