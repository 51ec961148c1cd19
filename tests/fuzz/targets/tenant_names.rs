//! Names and ids, and what stores make of a tenant's.
//!
//! It asserts that a name which is accepted is accepted again and is the same, as text and as JSON; that the schema of a tenant
//! needs no escape and has at most 63 bytes, and its file is in its folder; and that two tenants never have the same schema or
//! file, also where capital letters do not count.

#![no_main]

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard::fuzzing::{schema_name, tenant_file_path};
use switchboard::model::{
    ChannelId, ClientId, Digest, Epoch, Kind, PluginName, RequestKey, TenantSlug, UserId, Username,
};
use switchboard_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (one, two) = (input.text(), input.text());
    for text in [&one, &two] {
        same::<ClientId>(text);
        same::<Digest>(text);
        same::<Epoch>(text);
        same::<Kind>(text);
        same::<PluginName>(text);
        same::<TenantSlug>(text);
        for name in [same::<UserId>(text).map(|id| id.to_string()), same::<Username>(text).map(|name| name.to_string())]
        {
            assert!(name.is_none_or(|name| name.chars().count() <= 150 && !name.chars().any(char::is_control)));
        }
        if let Ok(id) = text.parse::<ChannelId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!(!text.parse::<RequestKey>().is_ok_and(|key| key.as_str().starts_with('\u{1}')));
    }
    let Ok(one) = one.parse::<TenantSlug>() else { return };
    let place = places(&one);
    let mut others: Vec<TenantSlug> = two.parse().ok().into_iter().collect();
    // Names that are made to look like a place.
    let posing = [place.0.strip_prefix("tenant_"), place.1.strip_suffix(".db")];
    others.extend(posing.into_iter().flatten().filter_map(|name| name.parse().ok()));
    for other in others.into_iter().filter(|other| *other != one) {
        let others = places(&other);
        assert!(place.0 != others.0, "{one} and {other} share the schema {}", place.0);
        assert!(place.1.to_lowercase() != others.1.to_lowercase(), "{one} and {other} share the file {}", place.1);
    }
});

fn same<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let name: T = text.parse().ok()?;
    let written = name.to_string();
    assert_eq!(written.parse::<T>().expect("it was accepted before"), name);
    let json = serde_json::to_string(&name).expect("a name has a JSON form");
    assert_eq!(serde_json::from_str::<T>(&json).expect("it was accepted before"), name);
    Some(name)
}

/// The schema and the file of a tenant.
fn places(slug: &TenantSlug) -> (String, String) {
    let schema = schema_name(slug);
    assert!(schema.len() <= 63 && !schema.contains(['"', '\\', '\0', '/']) && schema.is_ascii(), "{schema}");
    assert!(schema.starts_with("tenant_"), "no schema of Postgres, nor the catalogue's, begins like that");
    let folder = Path::new("/data");
    let path = tenant_file_path(folder, slug);
    assert_eq!(path.parent(), Some(folder.join("tenants").as_path()), "{path:?}");
    let file = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    assert!(file.len() <= 200 && file.ends_with(".db") && !file.starts_with('.'), "{file}");
    (schema, file)
}
