//! The binary as users and scripts meet it: help, arguments, errors, exit codes.
//!
//! No test here needs a node; those that do are in `node.rs`.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn jangbu(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangbu"));
    command.args(args).env_remove("JANGBU_BROKERS").stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// An address on which nothing listens.
fn dead_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn every_subcommand_has_help_with_an_example() {
    let commands: [&[&str]; 18] = [
        &[],
        &["serve"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "delete"],
        &["produce"],
        &["consume"],
        &["get"],
        &["bench"],
        &["completions"],
        &["man"],
        &["bench", "latency"],
        &["bench", "engine"],
        &["group", "list"],
        &["group", "describe"],
        &["group", "reset"],
        &["group", "delete"],
    ];
    for command in commands {
        let output = jangbu(&[command, &["--help"]].concat());
        let help = text(&output.stdout);
        assert!(output.status.success(), "{command:?}");
        assert!(help.contains("Examples:"), "{command:?}:\n{help}");
    }
}

#[test]
fn shells_get_completions_and_every_command_a_manual_page() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&jangbu(&["completions", shell]).stdout);
        assert!(script.contains("replication-factor"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(jangbu(&["man", dir.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(dir.path().join("jangbu-topic-create.1")).unwrap();
    assert!(page.contains("jangbu topic create flights"), "{page}");
}

#[test]
fn the_help_states_the_exit_codes() {
    let help = text(&jangbu(&["--help"]).stdout);
    for line in ["0  done", "2  the command line is wrong", "3  no broker answers"] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_refused_with_2_and_names_what_is_wrong() {
    let cases: [(&[&str], &str); 15] = [
        (&["prodce", "t"], "produce"),
        (&["topic", "create"], "<NAME>"),
        (&["topic", "create", "t", "--partitions", "0"], "--partitions"),
        (&["topic", "create", "t", "--config", "novalue"], "KEY=VALUE"),
        (&["produce", "t", "--compression", "brotli"], "zstd"),
        (&["consume", "t", "--offset", "1", "--from-beginning"], "--from-beginning"),
        (&["consume", "t", "--timestamp", "yesterday"], "2026-01-31T12:00:00Z"),
        (&["serve", "--listen", "nowhere"], "--listen"),
        (&["get", "t"], "<KEY>"),
        (&["get", "t", "k", "--prefix", "--history"], "--prefix"),
        (&["get", "t", "k", "--count", "3"], "--prefix"),
        (&["group", "reset", "g", "--to-latest"], "--all-topics"),
        (&["group", "reset", "g", "--topic", "t"], "--to-earliest"),
        (&["group", "reset", "g", "--topic", "t", "--to-latest", "--to-earliest"], "--to-latest"),
        (&["group", "reset", "g", "--topic", "t:x", "--to-latest"], "TOPIC:0,2"),
    ];
    for (args, expected) in cases {
        let output = jangbu(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = text(&output.stderr);
        assert!(error.contains(expected), "{args:?}:\n{error}");
    }
}

#[test]
fn without_a_broker_every_client_command_ends_with_3_and_tells_how_to_start_one() {
    let address = dead_address();
    let commands: [&[&str]; 7] = [
        &["topic", "list"],
        &["topic", "create", "t"],
        &["topic", "describe", "t"],
        &["produce", "t"],
        &["consume", "t"],
        &["get", "t", "k"],
        &["group", "list"],
    ];
    for command in commands {
        let output = jangbu(&[command, &["--brokers", &address]].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command:?}:\n{error}");
        assert!(error.contains(&address) && error.contains("jangbu serve"), "{error}");
    }
}

#[test]
fn with_json_an_error_is_one_object() {
    let output = jangbu(&["topic", "list", "--json", "--brokers", &dead_address()]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("no broker answers"));
    assert!(error["hint"].as_str().unwrap().contains("jangbu serve"));
}

#[test]
fn a_peer_that_is_no_broker_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Reading to the end keeps the socket open until the client has given up.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let output = jangbu(&["topic", "list", "--brokers", &address]);
    assert_ne!(output.status.code(), Some(0));
    let error = text(&output.stderr);
    assert!(error.contains("its length is 1213486160"), "{error}");
    peer.join().unwrap();
}

#[test]
fn a_missing_input_file_and_key_column_are_named_before_anything_is_sent() {
    let output = jangbu(&["produce", "t", "/nonexistent/rows.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot open /nonexistent/rows.csv"));

    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    file.write_all(b"year,tailnum\n2013,N1\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = jangbu(&["produce", "t", path, "--key", "tail"]);
    let error = text(&output.stderr);
    assert!(error.contains("no column \"tail\"; it has year, tailnum"), "{error}");
}

#[test]
fn a_config_file_that_is_missing_or_wrong_is_named() {
    let output = jangbu(&["serve", "--config", "/nonexistent/node.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/node.toml"));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"lissen = \"127.0.0.1:0\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = jangbu(&["serve", "--config", path]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(path) && error.contains("lissen"), "{error}");
}
