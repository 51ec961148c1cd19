use std::time::Duration;

use super::*;

const SECRET: &str = "6f1d2c3b4a5968778695a4b3c2d1e0f0";

fn settings(text: &str) -> Settings {
    toml::from_str(text).expect("well-formed settings")
}

fn secret() -> Option<Secret> {
    Some(Secret::new(SECRET))
}

#[test]
fn without_a_database_nothing_has_to_be_set() {
    let config = Settings::default().resolve(None).expect("the defaults are complete");
    assert!(config.data.is_embedded());
    assert_eq!(config.listen.public.to_string(), "127.0.0.1:8080");
    assert_eq!(config.auth.access_ttl, Duration::from_secs(300));
    assert_eq!(config.auth.refresh_ttl, Duration::from_secs(86_400));
    // The values that docs/protocol.md tells clients.
    let Limits { ping_interval, pong_timeout, token_grace, .. } = config.limits;
    assert_eq!([ping_interval, pong_timeout, token_grace], [25, 10, 25].map(Duration::from_secs));
}

#[test]
fn with_a_database_a_secret_is_needed_and_named() {
    let given = || settings("database-url = 'postgres://localhost/x'");
    let error = given().resolve(None).unwrap().require_secret().expect_err("no secret");
    assert!(error.to_string().contains("SWITCHBOARD_JWT_SECRET"), "{error}");
    assert!(given().resolve(secret()).unwrap().require_secret().is_ok());
    assert!(Settings::default().resolve(None).unwrap().require_secret().is_ok(), "embedded mode makes its own");
}

#[test]
fn a_short_secret_is_refused_without_being_shown() {
    let error = Settings::default().resolve(Some(Secret::new("hunter2"))).expect_err("seven bytes");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_flag_goes_before_the_file() {
    let folder = std::env::temp_dir().join(format!("switchboard-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("switchboard.toml");
    std::fs::write(&path, "listen = '127.0.0.1:1'\nadmin-listen = '127.0.0.1:2'\naccess-ttl = '90s'\n").unwrap();
    let flags = Settings::default().with_file(path).with("listen", "127.0.0.1:9");
    let config = flags.resolve(None).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!((config.listen.public.port(), config.listen.admin.port()), (9, 2));
    assert_eq!(config.auth.access_ttl, Duration::from_secs(90));
}

#[test]
fn what_does_not_read_is_named() {
    for (text, name) in [
        ("listen = 'localhost'", "--listen"),
        ("access-ttl = 'soon'", "--access-ttl"),
        ("refresh-ttl = '0s'", "--refresh-ttl"),
        ("drain = '-5s'", "--drain"),
        ("ping-interval = '999ms'", "--ping-interval"),
        ("pong-timeout = '0s'", "--pong-timeout"),
        ("token-grace = 'soon'", "--token-grace"),
        ("max-connections = 0", "--max-connections"),
        ("max-connections = 9223372036854775807", "--max-connections"),
    ] {
        let error = settings(text).resolve(None).expect_err(text);
        assert!(error.to_string().contains(name), "{error}");
    }
    for (text, part) in [
        ("lisen = 'x'", "lisen"),
        ("max-connections = 'many'", "a number"),
        ("auto-provision = 1", "true or false"),
        ("plugin = 'one.wasm'", "a list"),
    ] {
        let error = toml::from_str::<Settings>(text).expect_err(text);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn secrets_do_not_print() {
    let config = settings("database-url = 'postgres://u:hunter2@h/x'").resolve(secret()).unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains("hunter2") && !text.contains(SECRET), "{text}");
}

#[test]
fn the_operators_token_is_long_enough_or_refused_without_being_shown() {
    let config = || Settings::default().resolve(None).unwrap();
    for bad in ["hunter2", "with a blank in the middle", "sixteen bytes wit\u{fc}"] {
        let error = config().with_admin_token(Some(Secret::new(bad))).expect_err("refused").to_string();
        assert!(error.contains("SWITCHBOARD_ADMIN_TOKEN") && !error.contains(bad), "{error}");
    }
    let good = config().with_admin_token(Some(Secret::new("0123456789abcdef"))).unwrap();
    assert!(good.listen.admin_token.is_some());
}

#[test]
fn the_flag_of_a_setting_is_its_variable_and_its_key() {
    for setting in SETTINGS {
        assert!(setting.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", setting.name);
        assert_eq!(SETTINGS.iter().filter(|other| other.name == setting.name).count(), 1, "{}", setting.name);
    }
    assert_eq!(
        SETTINGS.iter().find(|setting| setting.name == "ping-interval").unwrap().variable(),
        "SWITCHBOARD_PING_INTERVAL"
    );
}
