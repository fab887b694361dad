//! `hearthctl bench study`: the daemon through both of its APIs, and other servers with
//! unusual responses.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Output;

use serde_json::Value;

use crate::clients::listening;
use crate::harness::{Daemon, Engine, Setup, error, ok, text};

/// One of the two models in the folder.
const MODEL: &str = "hearth-demo-q8_0";

fn real() -> Setup {
    Setup {
        engine: Engine::Real,
        ..Setup::default()
    }
}

/// The study of the daemon's socket.
fn study(daemon: &Daemon, args: &[&str]) -> Output {
    let socket = daemon.socket().display().to_string();
    let words = ["bench", "study", "--unix", &socket];
    daemon.ctl(&[&words, args].concat())
}

/// The same, with two models.
fn study_of_one(daemon: &Daemon, args: &[&str]) -> Output {
    study(daemon, &[&["--model", MODEL], args].concat())
}

fn document(output: &Output) -> Value {
    let text = text(&output.stdout);
    let first = text.lines().next().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(first).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn runs<'a>(server: &'a Value, form: &str) -> &'a Vec<Value> {
    server["forms"][form]["runs"].as_array().unwrap()
}

/// Whether a server was measured twice in each form, with all figures.
fn assert_measured(server: &Value, pid: u32) {
    assert_eq!(
        server["model"].as_str().unwrap().replace(":latest", ""),
        MODEL
    );
    assert_eq!(server["pid"], pid, "{server}");
    assert_eq!(server["failures"], serde_json::json!([]));
    assert!(
        server["forms"]["one_prompt"]["answer"]
            .as_str()
            .unwrap()
            .contains("Rome"),
        "{server}"
    );
    for (form, prompts) in [("one_prompt", 1), ("three_prompts", 3)] {
        let runs = runs(server, form);
        assert_eq!(runs.len(), 2);
        for run in runs {
            assert!(run["tokens"].as_u64() >= Some(4 * prompts), "{run}");
            assert_eq!(run["counted_by_server"], true);
            // The engine is a child of the process that was found.
            let mib = run["memory_average_bytes"].as_u64().unwrap() >> 20;
            assert!(mib >= 8, "{run}");
            assert_eq!(run["memory_kind"], "pss", "{run}");
            let first = run["first_token_s"].as_f64().unwrap();
            assert!(first > 0.0 && first <= run["response_s"].as_f64().unwrap());
        }
        let summary = &server["forms"][form]["summary"]["response_s"];
        assert_eq!(summary["runs"], 2, "{summary}");
    }
}

#[test]
fn one_study_measures_both_apis() {
    let (daemon, url) = listening(real());
    let plot = daemon.dir.path().join("study.svg");
    let against = format!("ollama={url},api=ollama,model={MODEL}");
    let plot_name = plot.display().to_string();
    let args = [
        "--runs",
        "2",
        "--against",
        &against,
        "--plot",
        &plot_name,
        "--json",
    ];
    let output = study_of_one(&daemon, &args);
    ok(&output);
    let document = document(&output);
    let servers = document["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2);
    for (server, name) in servers.iter().zip(["hearthd", "ollama"]) {
        assert_eq!(server["name"], name);
        assert_measured(server, daemon.child.id());
    }
    let drawn = fs::read_to_string(plot).unwrap();
    assert!(drawn.contains("three prompts") && drawn.contains("ollama"));

    let table = ok(&study_of_one(&daemon, &["--runs", "1"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("PROMPTS") && lines[1].contains("hearthd"),
        "{table}"
    );
}

#[test]
fn with_several_models_the_default_is_measured() {
    let daemon = Daemon::start(Setup {
        config: "[model]\ndefault = \"hearth-demo-f16\"\n",
        ..real()
    });
    // First with no model loaded, then with the model that the first study loaded.
    for api in ["openai", "ollama"] {
        let output = study(&daemon, &["--api", api, "--runs", "1", "--json"]);
        ok(&output);
        let document = document(&output);
        let model = document["servers"][0]["model"].as_str().unwrap();
        assert_eq!(model.replace(":latest", ""), "hearth-demo-f16", "{api}");
    }
}

#[test]
fn reset_clears_what_it_names() {
    let daemon = Daemon::start(real());
    let cached = |reset: &str| {
        let output = study_of_one(&daemon, &["--runs", "2", "--reset", reset, "--json"]);
        ok(&output);
        let document = document(&output);
        let server = &document["servers"][0];
        let of = |run: &Value| (run["cached_tokens"].as_u64(), run["prompt_tokens"].as_u64());
        runs(server, "one_prompt")
            .iter()
            .map(of)
            .collect::<Vec<_>>()
    };
    for (found, prompt) in cached("prompt") {
        assert!(
            found.unwrap() <= 8 && prompt.unwrap() > 20,
            "{found:?} of {prompt:?}"
        );
    }
    for (found, prompt) in cached("none") {
        assert!(
            found.unwrap() * 2 > prompt.unwrap(),
            "{found:?} of {prompt:?}"
        );
    }
    for (found, _) in cached("unload") {
        assert_eq!(found, Some(0), "nothing outlives the engine");
    }
    // Over Ollama's API as well.
    let ollama = ["--api", "ollama", "--reset", "unload", "--runs", "1"];
    ok(&study_of_one(&daemon, &ollama));
}

#[test]
fn the_length_of_answers_is_as_requested() {
    let daemon = Daemon::start(real());
    for api in ["openai", "ollama"] {
        let output = study_of_one(
            &daemon,
            &["--api", api, "--runs", "1", "--tokens", "24", "--json"],
        );
        ok(&output);
        let document = document(&output);
        let server = &document["servers"][0];
        assert_eq!(
            runs(server, "one_prompt")[0]["tokens"],
            24,
            "{api}: {server}"
        );
        assert_eq!(
            runs(server, "three_prompts")[0]["tokens"],
            72,
            "{api}: {server}"
        );
        assert_eq!(server["notes"], serde_json::json!([]), "{server}");
    }
}

/// A server that answers every chat with these bytes and closes the connection.
fn odd(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || _ = serve(stream, answer));
        }
    });
    format!("http://{address}")
}

fn serve(stream: TcpStream, answer: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut first, mut line) = (0, String::new(), String::new());
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])?;
    let models = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":[{\"id\":\"odd\"}]}";
    let answer = if first.starts_with("GET /v1/models") {
        models
    } else {
        answer
    };
    let mut stream = reader.into_inner();
    stream.write_all(answer.as_bytes())?;
    if answer.is_empty() {
        // It only accepts, until the client has disconnected.
        _ = stream.read(&mut [0]);
    }
    Ok(())
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

fn leak(text: String) -> &'static str {
    text.leak()
}

/// Servers by name, with their invalid response and a part of the message about it.
fn invalid_servers() -> [(&'static str, &'static str, &'static str); 7] {
    [
        ("html", leak(format!("{STREAM}data: <html>\n\n")), "no JSON"),
        (
            "whole",
            leak(format!("{STREAM}{{\"choices\":[]}}")),
            "no stream",
        ),
        (
            "closes",
            leak(format!("{STREAM}{}", chunk("Ro"))),
            "without an end",
        ),
        (
            "cut",
            "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\ndata: {",
            "breaks off",
        ),
        (
            "fails",
            leak(format!(
                "{STREAM}{}data: {{\"error\":{{\"message\":\"too hot\"}}}}\n\n",
                chunk("Ro")
            )),
            "too hot",
        ),
        (
            "refuses",
            "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n{\"error\":{\"message\":\"try later\"}}",
            "try later",
        ),
        ("nonsense", "SSH-2.0-x\r\n", "no answer"),
    ]
}

#[test]
fn invalid_servers_are_reported_and_others_keep_their_results() {
    let cases = invalid_servers();
    let daemon = Daemon::fake("");
    let good = odd(leak(format!(
        "{STREAM}{}{}data: [DONE]\n\n",
        chunk("Ro"),
        chunk("me")
    )));
    let mut args = vec![
        "--runs".to_owned(),
        "2".into(),
        "--timeout".into(),
        "1".into(),
    ];
    let nowhere = ("nowhere", "http://127.0.0.1:1".to_owned());
    let addresses = cases.iter().map(|(name, answer, _)| (*name, odd(answer)));
    for (name, url) in addresses.chain([("uncounted", good), nowhere]) {
        args.extend(["--against".to_owned(), format!("{name}={url}")]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();

    let output = study(&daemon, &[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let last: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["kind"], "StudyIncomplete", "{last}");
    let document = document(&output);
    let server = |name: &str| {
        let all = document["servers"].as_array().unwrap();
        all.iter().find(|server| server["name"] == name).unwrap()
    };
    assert_eq!(runs(server("hearthd"), "three_prompts").len(), 2);
    for (name, _, words) in cases
        .iter()
        .copied()
        .chain([("nowhere", "", "no connection")])
    {
        let server = server(name);
        let failure = server["failures"][0]["message"].as_str().unwrap();
        assert!(failure.contains(words), "{name}: {failure}");
        assert!(runs(server, "one_prompt").is_empty());
    }
    let uncounted = server("uncounted");
    assert_eq!(runs(uncounted, "one_prompt")[0]["tokens"], 2);
    assert!(
        uncounted["notes"][0]
            .as_str()
            .unwrap()
            .contains("counts no tokens")
    );

    let output = study(&daemon, &args);
    let said = error(&output);
    assert!(
        said.contains("refuses: warm-up: ") && said.contains("try later"),
        "{said}"
    );
    assert!(text(&output.stdout).contains("hearthd"), "{output:?}");
}

#[test]
fn wrong_usage_is_refused_before_any_request() {
    let daemon = Daemon::fake("");
    for (args, words) in [
        (
            &["--against", "hearthd=http://localhost:1"][..],
            "two servers",
        ),
        (&["--against", "x=https://localhost"], "plain http"),
        (&["--reset", "reboot"], "reboot"),
    ] {
        let output = study(&daemon, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(error(&output).contains(words), "{args:?}: {output:?}");
    }
    // Neither a silent server nor one that cannot unload is waited for.
    let silent = ["bench", "study", "--endpoint", &odd(""), "--timeout", "1"];
    let said = error(&daemon.ctl(&silent));
    assert!(said.contains("within 1 s"), "{said}");
    let simple = odd("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
    let against = format!("simple={simple}");
    let output = study(
        &daemon,
        &["--reset", "unload", "--runs", "1", "--against", &against],
    );
    assert!(error(&output).contains("404"), "{output:?}");
}
