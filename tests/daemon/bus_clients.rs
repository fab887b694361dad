//! Other clients of the bus: `gdbus`, `dbus-send`, and Python's `dbus-fast`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::client::{Bus, Options, chat};
use crate::clients::PYTHON;
use crate::harness::{BUS_NAME, Daemon, error, ok, root, text};

const PATH: &str = "/org/hearthd/Inference1";

fn gdbus(daemon: &Daemon, command: &str, args: &[&str]) -> Command {
    let mut gdbus = Command::new("gdbus");
    gdbus
        .args([command, "--address", &daemon.bus_address()])
        .args(["--dest", BUS_NAME])
        .args(args);
    gdbus
}

fn gdbus_call(daemon: &Daemon, method: &str, args: &[&str]) -> std::process::Output {
    let method = format!("{BUS_NAME}.{method}");
    let to = ["--object-path", PATH, "--method", &method];
    let mut call = gdbus(daemon, "call", &to);
    call.args(args).output().unwrap()
}

#[test]
fn gdbus_calls_methods_and_monitors_signals() {
    let daemon = Daemon::fake("");
    let monitor = gdbus(&daemon, "monitor", &["--object-path", PATH]);
    let mut monitor = { monitor }.stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = BufReader::new(monitor.stdout.take().unwrap()).lines();
    let mut until = |part: &str| {
        let mut lines = heard.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(part)).unwrap()
    };
    until("is owned by");

    let call = |method: &str, args: &[&str]| ok(&gdbus_call(&daemon, method, args));
    assert_eq!(
        call("Generate", &["hello there"]).trim(),
        "('hello there',)"
    );
    let said = until("'State': <'");
    assert!(said.contains("PropertiesChanged"), "{said}");
    assert_eq!(call("CountTokens", &["abc", "{}"]).trim(), "(uint32 3,)");
    assert!(call("Embed", &["['a', 'b']", "{}"]).starts_with("([[1.0, 0.0"));
    let request = chat("a job").to_string();
    // To gdbus, numbers without a type are int32.
    let options = "{'priority': <'background'>, 'deadline_ms': <uint32 60000>}";
    let job = call("Submit", &[&request, options]);
    let job = job.split('\'').nth(1).unwrap();
    let method = format!("{BUS_NAME}.Job.GetResult");
    let mut result = gdbus(
        &daemon,
        "call",
        &["--object-path", job, "--method", &method],
    );
    assert!(ok(&result.output().unwrap()).contains("a job"));
    let refused = error(&gdbus_call(&daemon, "LoadModel", &["nope", "{}"]));
    assert!(
        refused.contains("org.hearthd.Inference1.Error.ModelNotFound"),
        "{refused}"
    );
    let shown = ok(&gdbus(&daemon, "introspect", &["--object-path", PATH])
        .output()
        .unwrap());
    assert!(shown.contains("GenerateJson(in  s prompt"), "{shown}");

    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

#[test]
fn dbus_send_calls_methods_and_reads_properties() {
    let daemon = Daemon::fake("");
    let send = |to: &str, method: &str, args: &[&str]| {
        let mut send = Command::new("dbus-send");
        send.arg(format!("--bus={}", daemon.bus_address()))
            .args(["--print-reply=literal", "--reply-timeout=60000"])
            .arg(format!("--dest={BUS_NAME}"))
            .args([to, method])
            .args(args);
        send.output().unwrap()
    };
    let manager = |method: &str, args: &[&str]| {
        ok(&send(PATH, &format!("{BUS_NAME}.{method}"), args))
            .trim()
            .to_owned()
    };
    assert_eq!(manager("Generate", &["string:hello"]), "hello");
    let schema = "string:{\"const\": 1}";
    assert_eq!(manager("GenerateJson", &["string:1", schema]), "1");
    let get = "org.freedesktop.DBus.Properties.Get";
    let state = [&format!("string:{BUS_NAME}"), "string:Model"];
    let model = ok(&send(PATH, get, &state));
    assert!(model.contains("fake"), "{model}");
    // dbus-send supports `a{sv}` with values of one type only; such calls are for other
    // clients.
    let job = Bus::connect(&daemon)
        .submit(&chat("a job"), &Options::new())
        .unwrap();
    let objects = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
    assert!(ok(&send(PATH, objects, &[])).contains(&job));
    let result = ok(&send(&job, &format!("{BUS_NAME}.Job.GetResult"), &[]));
    assert!(result.contains("a job"), "{result}");
    let refused = send(
        PATH,
        &format!("{BUS_NAME}.GenerateJson"),
        &["string:x", "string:{"],
    );
    let refused = error(&refused);
    assert!(
        refused.contains("org.hearthd.Inference1.Error.InvalidSchema"),
        "{refused}"
    );
}

#[test]
fn dbus_fast_streams_and_receives_signals() {
    let daemon = Daemon::fake("");
    let output = Command::new(&*PYTHON)
        .arg(root().join("tests/clients/use_dbus_fast.py"))
        .arg(daemon.bus_address())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said == "ok\n", "{said}");
}

/// The example of docs/api/dbus.md, as it is there.
#[test]
fn the_documented_example_of_dbus_fast_works_as_written() {
    let daemon = Daemon::real();
    let page = fs::read_to_string(root().join("docs/api/dbus.md")).unwrap();
    let example = page.split("```python\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let output = Command::new(&*PYTHON)
        .args(["-c", example])
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Rome") && said.contains("Paris"), "{said}");
}
