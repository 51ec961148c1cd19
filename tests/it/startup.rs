//! How the program starts, says what is wrong, and ends.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use switchboard_tests::tokens::payload_of;
use switchboard_tests::{
    App, Broker, Channel, Database, Door, Exit, Member, Settings, Signal, eventually, number, redis_url, text,
};
use tokio::time::Instant;

/// Nothing listens here: the port is reserved, and connecting to it is refused at once.
const NOWHERE: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_first_start_needs_nothing_and_says_how_to_log_in() {
    let settings = Settings::bare();
    let begun = Instant::now();
    let broker = Broker::start(&settings).await;
    println!("first start: {} ms until it listens", begun.elapsed().as_millis());

    let url = format!("http://{}", broker.address());
    broker.printed(&url).await;
    let password = password_in(&broker.printed("password").await);
    let listening = Instant::now();
    let door = Door::new(broker.address());
    let mut sockets = Vec::new();
    for username in ["alice", "bob"] {
        let (status, tokens) = door.log_in("demo", username, &password).await;
        assert_eq!(status, 200, "{username} with {password:?}: {tokens}\n{}", broker.stdout());
        let token = text(&tokens, "access");
        let (_, channels) = door.get("/api/channels/", Some(token)).await;
        assert_eq!(channels["results"][0]["name"], "lobby");
        let lobby = Channel { id: text(&channels["results"][0], "id").to_owned(), name: "lobby".to_owned() };
        sockets.push(Member::external(&door, username, username, token.to_owned()).join(&lobby).await);
    }
    sockets[0].say("the first message").await;
    assert_eq!(sockets[1].next_of("chat.message").await["message"]["content"], "the first message");
    let spent = listening.elapsed().as_millis();
    println!("first message: {spent} ms from the start line to its delivery, both log-ins included");
    let (status, page) = door.get("/", None).await;
    assert_eq!(status, 200);
    assert!(page.as_str().is_some_and(|page| page.to_lowercase().starts_with("<!doctype html")), "the chat page");
    assert!(!broker.stderr().contains(&password), "a secret is for the terminal, not for the log");
}

/// The last word of the line about the password in the banner.
fn password_in(line: &str) -> String {
    let last = line.split_whitespace().next_back();
    last.unwrap_or_else(|| panic!("no password in {line}")).to_owned()
}

#[tokio::test]
async fn a_second_start_keeps_everything_and_compiles_nothing() {
    let settings = Settings::bare();
    let first = Broker::start(&settings).await;
    let password = password_in(&first.printed("password").await);
    let compiled = first.events("plugin prepared");
    assert!(!compiled.is_empty(), "one line a plugin:\n{}", first.stderr());
    assert!(compiled.iter().all(|plugin| plugin["from_cache"] == false), "{compiled:?}");
    let (_, tokens) = Door::new(first.address()).log_in("demo", "alice", &password).await;
    assert_eq!(first.stop(Signal::Terminate).await.code(), Some(0));

    let begun = Instant::now();
    let second = Broker::start(&settings).await;
    println!("second start: {} ms until it listens", begun.elapsed().as_millis());
    let cached = second.events("plugin prepared");
    assert_eq!(cached.len(), compiled.len());
    assert!(cached.iter().all(|plugin| plugin["from_cache"] == true), "{cached:?}");
    let door = Door::new(second.address());
    assert_eq!(door.get("/api/me/", Some(text(&tokens, "access"))).await.0, 200, "the secret is the same one");
    assert_eq!(door.log_in("demo", "alice", &password).await.0, 200);
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_secret_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let settings = Settings::bare();
    let _broker = Broker::start(&settings).await;
    let data = settings.data();
    for secret in ["jwt-secret", "demo-password", "admin-token"] {
        let path = data.join(secret);
        let mode = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{}", path.display());
    }
}

fn assert_names(exit: &Exit, parts: &[&str]) {
    assert_eq!(exit.code(), Some(1), "stderr:\n{}", exit.stderr);
    for part in parts {
        assert!(exit.stderr.contains(part), "no `{part}` in:\n{}", exit.stderr);
    }
    assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
}

#[tokio::test]
async fn without_postgres_it_says_which_one_and_ends() {
    let url = format!("postgres://someone:hunter2@{NOWHERE}/chat");
    let settings = on_free_ports(Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &url));
    let exit = settings.run(&["serve"]).await;
    assert_names(&exit, &[NOWHERE]);
    assert!(!exit.stderr.contains("hunter2"), "{}", exit.stderr);
    assert_names(&settings.run(&["tenant", "list"]).await, &[NOWHERE]);
}

#[tokio::test]
async fn without_redis_it_says_which_one_and_ends() {
    let database = Database::create().await;
    let settings = Settings::embedded()
        .with("SWITCHBOARD_DATABASE_URL", &database.url())
        .with("SWITCHBOARD_REDIS_URL", &format!("redis://:hunter2@{NOWHERE}"));
    let exit = on_free_ports(settings).run(&["serve"]).await;
    assert_names(&exit, &[NOWHERE]);
    assert!(!exit.stderr.contains("hunter2"), "{}", exit.stderr);
}

#[tokio::test]
async fn on_postgres_a_missing_secret_is_named() {
    let database = Database::create().await;
    let settings = Settings::bare().with("SWITCHBOARD_DATABASE_URL", &database.url());
    for verb in ["serve", "config"] {
        let arguments = if verb == "config" { vec!["config", "check"] } else { vec![verb] };
        assert_names(&on_free_ports(settings.clone()).run(&arguments).await, &["SWITCHBOARD_JWT_SECRET"]);
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = App::embedded().await;
    let taken = first.door().address().to_string();
    let settings = on_free_ports(Settings::embedded()).with("SWITCHBOARD_LISTEN", &taken);
    assert_names(&settings.run(&["serve"]).await, &[&taken]);
}

#[tokio::test]
async fn two_brokers_do_not_share_an_embedded_folder() {
    let settings = on_free_ports(Settings::bare());
    let _first = Broker::start(&settings).await;
    let second = settings.run(&["serve"]).await;
    assert_names(&second, &["another broker", settings.data().to_str().expect("a path in UTF-8")]);
    // The command line goes on beside a broker.
    settings.run(&["tenant", "create", "beside"]).await.success();
}

#[tokio::test]
async fn a_command_whose_output_nobody_reads_ends_without_a_word() {
    let exit = Settings::bare().run_unread(&["config", "check"]).await;
    assert_eq!((exit.code(), exit.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn an_origin_that_is_none_is_refused_and_others_are_shown_as_browsers_write_them() {
    let settings = |origins| Settings::embedded().with("SWITCHBOARD_ALLOWED_ORIGIN", origins);
    let shown = settings("HTTPS://Chat.Example:443/, https://*.example.com").run(&["config", "check"]).await.success();
    assert!(shown.contains("https://chat.example") && shown.contains("https://*.example.com"), "{shown}");
    for origin in ["chat.example", "https://chat.example/app", "https://me@chat.example", "https://chat.example?x"] {
        assert_names(&settings(origin).run(&["config", "check"]).await, &["--allowed-origin"]);
    }
}

#[tokio::test]
async fn settings_of_a_node_are_checked_without_starting() {
    let database = Database::create().await;
    let good = Settings::embedded()
        .with("SWITCHBOARD_DATABASE_URL", &database.url())
        .with("SWITCHBOARD_REDIS_URL", &redis_url());
    good.run(&["config", "check"]).await.success();
    Settings::bare().run(&["config", "check"]).await.success();
    for (name, value, part) in [
        ("SWITCHBOARD_LISTEN", "localhost", "--listen"),
        ("SWITCHBOARD_JWT_SECRET", "too short", "SWITCHBOARD_JWT_SECRET"),
        ("SWITCHBOARD_ADMIN_TOKEN", "too short", "SWITCHBOARD_ADMIN_TOKEN"),
        ("SWITCHBOARD_ACCESS_TTL", "soon", "--access-ttl"),
    ] {
        let exit = good.clone().with(name, value).run(&["config", "check"]).await;
        assert_names(&exit, &[part]);
        assert!(!exit.stderr.contains("too short"), "a secret is not shown: {}", exit.stderr);
    }
}

#[tokio::test]
async fn a_settings_file_is_read_and_a_misspelt_key_is_named() {
    let settings = Settings::bare();
    let file = settings.folder().path().join("switchboard.toml");
    std::fs::write(&file, "access-ttl = '90s'\n").expect("a writable folder");
    settings.run(&["config", "check"]).await.success();
    std::fs::write(&file, "acess-ttl = '90s'\n").expect("a writable folder");
    assert_names(&settings.run(&["config", "check"]).await, &["switchboard.toml", "acess-ttl"]);
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_in_order() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let app = App::embedded().await;
        let acme = app.tenant("acme").await;
        let alice = acme.member("alice").await;
        let lobby = acme.channel("lobby", &[&alice]).await;
        let mut a = alice.join(&lobby).await;
        a.say("before it ends").await;
        let begun = Instant::now();
        app.broker().ask_to_end(signal).await;
        assert_eq!(a.expect_close().await.code, 4200, "{signal:?}");
        let exit = app.ended().await;
        println!("{signal:?}: ended after {} ms", begun.elapsed().as_millis());
        assert_eq!(exit.code(), Some(0), "{signal:?}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn the_help_lists_the_verbs_and_a_wrong_one_is_refused() {
    let settings = Settings::bare();
    let help = settings.run(&["--help"]).await.success();
    for verb in ["serve", "tenant", "user", "token", "channel", "plugin", "config"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "no {verb} in:\n{help}");
    }
    let wrong = settings.run(&["sevre"]).await;
    assert_eq!(wrong.code(), Some(2), "{}", wrong.stderr);
}

#[tokio::test]
async fn a_broker_serves_what_commands_make_embedded() {
    a_broker_serves_what_commands_make(App::embedded().await).await;
}

#[tokio::test]
async fn a_broker_serves_what_commands_make_on_postgres() {
    a_broker_serves_what_commands_make(App::postgres().await).await;
}

async fn a_broker_serves_what_commands_make(app: App) {
    let (settings, door, password) = (app.settings(), app.door(), "correct horse battery staple");
    settings.run(&["tenant", "create", "acme"]).await.success();
    let create = ["user", "create", "acme", "alice", "--password-stdin"];
    settings.run_with_input(&create, &format!("{password}\n")).await.success();
    settings.run(&["user", "create", "acme", "bob", "--id", "7"]).await.success();
    let printed =
        settings.run(&["channel", "create", "acme", "the lobby", "--member", "alice", "--member", "bob"]).await;
    let printed = printed.success();
    let id = printed.split_whitespace().next_back().expect("the id is the last word").to_owned();
    let token = settings.run(&["token", "acme", "bob", "--ttl", "1h"]).await.success();
    let claims = payload_of(&token);
    assert_eq!((&claims["user_id"], number(&claims, "exp") - number(&claims, "iat")), (&json!("7"), 3_600), "{claims}");

    let (status, tokens) = door.log_in("acme", "alice", password).await;
    assert_eq!(status, 200, "{tokens}");
    let alice = Member::external(door, "alice", "alice", text(&tokens, "access").to_owned());
    let (_, channels) = alice.get("/api/channels/").await;
    assert_eq!((&channels["results"][0]["id"], &channels["results"][0]["name"]), (&json!(id), &json!("the lobby")));
    let lobby = Channel { id, name: "the lobby".to_owned() };
    let bob = Member::external(door, "bob", "7", token);
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    a.say("hello").await;
    assert_eq!(b.next_of("chat.message").await["message"]["content"], "hello");
    // The first one who is named owns the channel.
    assert_eq!(bob.delete(&lobby.path("members/alice/")).await.0, 403);
    assert_eq!(alice.delete(&lobby.path("members/7/")).await.0, 204);

    settings.run(&["tenant", "disable", "acme"]).await.success();
    eventually("the tenant is shut out", async || alice.get("/api/me/").await.0 == 401).await;
    settings.run(&["tenant", "enable", "acme"]).await.success();
    eventually("the tenant is let in again", async || door.log_in("acme", "alice", password).await.0 == 200).await;
    assert_eq!(alice.get("/api/me/").await.0, 401, "what was issued before counts no more");
}

#[tokio::test]
async fn commands_say_what_is_wrong_and_change_nothing() {
    let settings = Settings::embedded();
    settings.run(&["tenant", "create", "acme"]).await.success();
    settings.run(&["user", "create", "acme", "alice"]).await.success();
    for (arguments, part) in [
        (vec!["tenant", "create", "acme"], "acme"),
        (vec!["tenant", "create", "No Slug"], "a-z"),
        (vec!["tenant", "disable", "nowhere"], "nowhere"),
        (vec!["user", "create", "nowhere", "alice"], "nowhere"),
        (vec!["user", "create", "acme", "alice"], "already"),
        (vec!["token", "acme", "carol"], "carol"),
        (vec!["channel", "create", "acme", "lobby", "--member", "carol"], "carol"),
    ] {
        let exit = settings.run(&arguments).await;
        assert!(matches!(exit.code(), Some(1 | 2)), "{arguments:?}: {exit:?}");
        assert!(exit.stderr.contains(part) && !exit.stderr.contains("panicked"), "{arguments:?}: {exit:?}");
        assert_eq!(exit.stdout, "", "{arguments:?}");
    }
    let tenants = settings.run(&["tenant", "list"]).await.success();
    assert!(tenants.contains("acme") && !tenants.contains("nowhere"), "{tenants}");
}

#[tokio::test]
async fn the_log_is_json_line_by_line() {
    let app = App::embedded().await;
    let exit = app.stop(Signal::Terminate).await;
    for line in exit.stderr.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
}

fn on_free_ports(settings: Settings) -> Settings {
    settings.with("SWITCHBOARD_LISTEN", "127.0.0.1:0").with("SWITCHBOARD_ADMIN_LISTEN", "127.0.0.1:0")
}

#[tokio::test]
async fn a_variable_that_is_empty_counts_as_not_set_and_one_that_is_no_setting_is_named() {
    let mut settings = Settings::bare();
    for setting in switchboard::config::SETTINGS.iter().filter(|setting| setting.name != "data-dir") {
        settings = settings.with(&setting.variable(), "");
        if setting.takes == switchboard::config::Takes::SecretFile {
            settings = settings.with(setting.variable().trim_end_matches("_FILE"), "");
        }
    }
    let settings = settings.with("SWITCHBOARD_CONFIG", "").with("SWITCHBOARD_ADMIN_URL", "");
    let checked = settings.run(&["config", "check"]).await;
    assert_eq!(checked.stderr, "", "{checked:?}");
    let shown =
        |text: String| text.lines().filter(|line| !line.contains("data-dir")).map(str::to_owned).collect::<Vec<_>>();
    let bare = Settings::bare().run(&["config", "check"]).await.success();
    assert_eq!(shown(checked.success()), shown(bare));

    let misspelt = Settings::bare().with("SWITCHBOARD_LISTN", "127.0.0.1:1");
    let checked = misspelt.run(&["config", "check"]).await;
    assert!(checked.stderr.contains("SWITCHBOARD_LISTN is not a setting"), "{checked:?}");
    let app = App::start(Settings::embedded().with("SWITCHBOARD_LISTN", "127.0.0.1:1")).await;
    app.broker().logged("SWITCHBOARD_LISTN").await;
    // A flag that is empty is a mistake.
    let refused = Settings::bare().run(&["config", "check", "--max-connections", ""]).await;
    assert!(refused.code() == Some(1) && refused.stderr.contains("--max-connections"), "{refused:?}");
}

#[tokio::test]
async fn a_secret_is_the_same_with_a_mark_and_a_line_end_from_a_variable_and_from_a_file() {
    let bare = "0f3c9a51d2b84e7690c1a7f55e3d8b24";
    let signs = async |settings: Settings| {
        settings.run(&["tenant", "create", "acme"]).await.success();
        settings.run(&["user", "create", "acme", "alice"]).await.success();
        let token = settings.run(&["token", "acme", "alice"]).await.success();
        let key = DecodingKey::from_secret(bare.as_bytes());
        decode::<Value>(token.trim(), &key, &Validation::new(Algorithm::HS256)).is_ok()
    };
    for secret in [bare.to_owned(), format!("{bare}\r\n"), format!("\u{feff}{bare}\n"), format!("  {bare}")] {
        let file = Settings::bare();
        std::fs::write(file.folder().path().join("secret"), &secret).unwrap();
        assert!(signs(file.with("SWITCHBOARD_JWT_SECRET_FILE", "secret")).await, "{secret:?} in a file");
        assert!(signs(Settings::bare().with("SWITCHBOARD_JWT_SECRET", &secret)).await, "{secret:?} in a variable");
    }
    assert!(!signs(Settings::bare().with("SWITCHBOARD_JWT_SECRET", &format!("{bare}x"))).await);
}

#[tokio::test]
async fn a_hangup_changes_nothing() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let mut socket = alice.join(&acme.channel("lobby", &[&alice]).await).await;
    app.broker().signal(Signal::Hangup).await;
    app.broker().logged("SIGHUP").await;
    assert_eq!(socket.say("still here").await["seq"], 1);
}
