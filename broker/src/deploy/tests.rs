//! Planning, seen as an operator sees it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;

use super::*;
use crate::model::catalogue::*;
use crate::model::{Kind, PluginName, TenantSlug, Timestamp};
use crate::plugin::Descriptor;

/// A catalogue that changes as a store would change it.
struct Office {
    catalogue: Catalogue,
    built_in: Vec<BuiltIn>,
    now: i64,
}

impl Office {
    /// With a built-in `talk` that handles `say` and `hum`.
    fn new() -> Self {
        let talk = BuiltIn {
            plugin: name("talk"),
            version: "0.1.0".to_owned(),
            digest: "0".repeat(64),
            kinds: specs(&["say", "hum"]),
            watches: Vec::new(),
        };
        Self { catalogue: Catalogue::default(), built_in: vec![talk], now: 0 }
    }

    /// With poll 1 (vote), poll 2 (vote, close; it wants kv) and poll 3 (close, and it watches).
    fn with_polls() -> Self {
        let mut office = Self::new();
        office.deploy("poll", "1", &["vote"], &[], &[]);
        office.deploy("poll", "2", &["vote", "close"], &[], &[Import::Kv]);
        office.deploy("poll", "3", &["close"], &["say"], &[Import::Log]);
        office
    }

    fn deploy(&mut self, plugin: &str, version: &str, kinds: &[&str], watches: &[&str], wants: &[Import]) {
        self.run(Command::Deploy(component(plugin, version, kinds, watches, wants))).unwrap();
    }

    fn ask(&self, command: &Command) -> Result<Step, Refused> {
        let view = View { catalogue: &self.catalogue, built_in: &self.built_in };
        let limit = |name: &str, value: u64| match (name, value) {
            ("cpu_ms", 1..=1_000) => Ok(()),
            _ => Err(format!("`{name}={value}` is no limit")),
        };
        plan(&Planner { view, now: Timestamp(self.now), actor: "ops@control", limit }, command)
    }

    fn run(&mut self, command: Command) -> Result<Step, Refused> {
        self.now += 1;
        let step = self.ask(&command)?;
        let Some(change) = step.change.clone() else { return Ok(step) };
        let catalogue = &mut self.catalogue;
        catalogue.revision += 1;
        catalogue.versions.extend(change.versions);
        for row in change.generations {
            assert!(catalogue.generations.iter().all(|known| known.id != row.id), "a number is given once");
            catalogue.generations.push(row);
        }
        for route in change.routes {
            assert!(route.previous.len() <= Route::KEPT);
            catalogue.routes.retain(|known| (&known.scope, &known.subject) != (&route.scope, &route.subject));
            catalogue.routes.push(route);
        }
        catalogue.routes.retain(|route| !change.dropped.contains(&(route.scope.clone(), route.subject.clone())));
        for policy in change.plugin_policies {
            catalogue.plugin_policies.retain(|known| (&known.scope, &known.plugin) != (&policy.scope, &policy.plugin));
            catalogue.plugin_policies.push(policy);
        }
        for policy in change.kind_policies {
            catalogue.kind_policies.retain(|known| (&known.scope, &known.kind) != (&policy.scope, &policy.kind));
            catalogue.kind_policies.extend(policy.policy.is_some().then_some(policy));
        }
        for (tenant, given) in change.consents {
            if given {
                catalogue.consents.insert(tenant)
            } else {
                catalogue.consents.remove(&tenant)
            };
        }
        Ok(step)
    }

    fn done(&mut self, command: Command) -> Step {
        self.run(command).unwrap()
    }

    fn refused(&mut self, command: Command) -> String {
        let before = self.catalogue.clone();
        let line = self.run(command).unwrap_err().to_string();
        assert_eq!(self.catalogue, before, "what is refused changes nothing");
        assert!(!line.contains('\n'), "one line: {line}");
        line
    }

    /// What handles a kind for a tenant: plugin and version, or a word.
    fn handler(&self, tenant: &str, kind: &str) -> String {
        let view = View { catalogue: &self.catalogue, built_in: &self.built_in };
        let subject = handles(kind);
        let words = view.words(view.target(&of(tenant), &subject), &subject);
        words.split(" (").next().unwrap().to_owned()
    }

    fn candidate(&self, scope: &Scope, kind: &str) -> Option<Trial> {
        let view = View { catalogue: &self.catalogue, built_in: &self.built_in };
        view.own_route(scope, &handles(kind))?.candidate.map(|candidate| candidate.trial)
    }

    fn grant_kv(&mut self) {
        self.done(Command::Grants(name("poll"), Scope::All, Edit::Add(BTreeSet::from([Import::Kv]))));
    }
}

fn name(text: &str) -> PluginName {
    text.parse().unwrap()
}

fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

fn of(tenant: &str) -> Scope {
    Scope::Tenant(slug(tenant))
}

fn handles(kind: &str) -> Subject {
    Subject::Handles(kind.parse().unwrap())
}

fn specs(kinds: &[&str]) -> Vec<KindSpec> {
    let spec =
        |kind: &&str| KindSpec { kind: kind.parse().unwrap(), origin: Origin::Client, durability: Durability::Durable };
    kinds.iter().map(spec).collect()
}

fn component(plugin: &str, version: &str, kinds: &[&str], watches: &[&str], wants: &[Import]) -> Descriptor {
    let digest =
        format!("{:0>64}", version.bytes().chain(plugin.bytes()).map(|b| format!("{b:02x}")).collect::<String>());
    Descriptor {
        plugin: name(plugin),
        version: version.to_owned(),
        digest: digest.parse().unwrap(),
        size: 100,
        kinds: specs(kinds),
        watches: watches.iter().map(|kind| kind.parse::<Kind>().unwrap()).collect(),
        wants: wants.to_vec(),
    }
}

fn choice(plugin: &str, version: &str, scope: Scope) -> Choice {
    Choice { plugin: name(plugin), version: Some(version.to_owned()), config: None, scope }
}

fn activate(plugin: &str, version: &str) -> Command {
    Command::Activate(choice(plugin, version, Scope::All))
}

fn activate_for(tenant: &str, plugin: &str, version: &str) -> Command {
    Command::Activate(choice(plugin, version, of(tenant)))
}

fn canary(version: &str, percent: u8) -> Command {
    Command::Try(choice("poll", version, Scope::All), Trial::Canary(percent))
}

fn rollback(plugin: &str) -> Command {
    Command::Rollback(name(plugin), Scope::All)
}

fn circuit(tenant: &str, generation: u64) -> Command {
    let reason = "3 traps in a row".to_owned();
    Command::Break { plugin: name("poll"), tenant: slug(tenant), generation, reason }
}

#[test]
fn a_version_has_the_same_bytes_for_ever() {
    let mut office = Office::with_polls();
    let again = office.done(Command::Deploy(component("poll", "1", &["vote"], &[], &[])));
    assert!(again.change.is_none(), "the same bytes again change nothing");
    let other = Descriptor { digest: "f".repeat(64).parse().unwrap(), ..component("poll", "1", &["vote"], &[], &[]) };
    let line = office.refused(Command::Deploy(other));
    assert!(line.contains("poll 1") && line.contains("raise the version"), "{line}");
    let line = office.refused(Command::Deploy(component("talk", "0.1.0", &["say"], &[], &[])));
    assert!(line.contains("built in") && line.contains("raise the version"), "{line}");
    office.deploy("talk", "0.2.0", &["say"], &[], &[]);
}

#[test]
fn activating_takes_over_all_kinds_and_says_from_what_to_what() {
    let mut office = Office::new();
    office.deploy("loud", "1", &["say", "shout"], &["say"], &[]);
    let step = office.done(activate("loud", "1"));
    assert_eq!((step.from.as_str(), step.to.as_str()), ("talk 0.1.0 (built in), nothing", "loud 1 (generation 1)"));
    assert_eq!(["say", "shout", "hum"].map(|kind| office.handler("acme", kind)), ["loud 1", "loud 1", "talk 0.1.0"]);
    assert!(office.catalogue.routes.iter().any(|route| route.subject == Subject::Watches(name("loud"))));
    assert!(office.done(activate("loud", "1")).change.is_none(), "it is in force already");

    office.done(activate("talk", "built-in"));
    assert_eq!(
        ["say", "shout", "hum"].map(|kind| office.handler("acme", kind)),
        ["talk 0.1.0", "loud 1", "talk 0.1.0"]
    );
}

#[test]
fn without_a_version_the_latest_deployed_is_activated_or_the_built_in_one() {
    let mut office = Office::with_polls();
    let latest = Choice { version: None, ..choice("poll", "", Scope::All) };
    assert_eq!(office.done(Command::Activate(latest)).to, "poll 3 (generation 1)");
    let latest = Choice { version: None, ..choice("talk", "", Scope::All) };
    office.done(Command::Disable(name("talk"), Scope::All));
    assert_eq!(office.handler("acme", "say"), "off");
    assert_eq!(office.done(Command::Activate(latest.clone())).to, "talk 0.1.0 (built in)");
    office.deploy("talk", "0.2.0", &["say"], &[], &[]);
    office.done(Command::Activate(latest));
    assert_eq!(office.handler("acme", "say"), "talk 0.2.0");
    office.done(activate("talk", "0.1.0"));
    assert_eq!(office.handler("acme", "say"), "talk 0.1.0");
}

#[test]
fn what_is_unknown_or_out_of_bounds_is_refused_with_what_to_do() {
    let mut office = Office::with_polls();
    for (command, words) in [
        (activate("pole", "1"), "no plugin `pole`; `switchboard plugin list`"),
        (activate("poll", "9"), "poll has no version 9; available: 1, 2, 3"),
        (activate("talk", "9"), "talk has no version 9; available: built-in"),
        (canary("1", 0), "1 to 99"),
        (canary("1", 100), "use `activate` for all"),
        (Command::Try(choice("talk", "built-in", Scope::All), Trial::Shadow), "cannot run as a canary"),
        (Command::Try(choice("poll", "1", Scope::All), Trial::Shadow), "nothing to compare it with"),
        (Command::Promote(name("poll"), Scope::All), "no version of poll is on trial for all tenants"),
        (Command::Rollback(name("poll"), Scope::All), "not in force for all tenants"),
        (Command::Rollback(name("poll"), of("acme")), "no route of its own for tenant acme"),
        (Command::Disable(name("poll"), Scope::All), "not in force"),
        (
            Command::Activate(Choice { config: Some("x".repeat(65_537)), ..choice("poll", "1", Scope::All) }),
            "at most 65536 bytes",
        ),
        (
            Command::Activate(Choice { config: Some("x".to_owned()), ..choice("talk", "built-in", Scope::All) }),
            "takes no",
        ),
    ] {
        let line = office.refused(command);
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn what_is_wanted_must_be_granted() {
    let mut office = Office::with_polls();
    assert_eq!(
        office.refused(activate_for("acme", "poll", "2")),
        "poll 2 needs these grants for tenant acme: kv; switchboard plugin grants poll --tenant acme --add kv"
    );
    let line = office.refused(canary("2", 10));
    assert!(line.ends_with("switchboard plugin grants poll --add kv"), "{line}");
    office.done(Command::Grants(name("poll"), of("acme"), Edit::Add(BTreeSet::from([Import::Kv]))));
    office.done(activate_for("acme", "poll", "2"));
    assert!(office.refused(activate("poll", "2")).contains("needs these grants for all tenants"));

    let line = office.refused(Command::Grants(name("poll"), of("acme"), Edit::Clear));
    assert!(line.contains("poll 2 is in force for tenant acme and needs kv"), "{line}");
    office.done(Command::Rollback(name("poll"), of("acme")));
    let step = office.done(Command::Grants(name("poll"), of("acme"), Edit::Remove(BTreeSet::from([Import::Kv]))));
    assert_eq!((step.from.as_str(), step.to.as_str()), ("kv, log", "log"));
    office.done(Command::Grants(name("poll"), Scope::All, Edit::Set(BTreeSet::new())));
    assert!(office.refused(activate("poll", "3")).contains("needs these grants for all tenants: log"));
}

#[test]
fn taking_a_grant_from_all_minds_tenants_that_live_by_it() {
    let mut office = Office::with_polls();
    office.grant_kv();
    office.done(activate_for("acme", "poll", "2"));
    let take = Command::Grants(name("poll"), Scope::All, Edit::Remove(BTreeSet::from([Import::Kv])));
    assert!(office.refused(take.clone()).contains("in force"));
    office.done(Command::Grants(name("poll"), of("acme"), Edit::Set(BTreeSet::from([Import::Kv]))));
    office.done(take);
}

#[test]
fn rolling_back_goes_back_by_one_as_often_as_three_times() {
    let mut office = Office::new();
    for version in ["1", "2", "3", "4", "5"] {
        office.deploy("poll", version, &["vote"], &[], &[]);
        office.done(activate("poll", version));
    }
    for version in ["poll 4", "poll 3", "poll 2"] {
        office.done(rollback("poll"));
        assert_eq!(office.handler("acme", "vote"), version);
    }
    assert!(office.refused(rollback("poll")).contains("no record of what was in force before poll 2"));
}

#[test]
fn rolling_the_first_version_back_leaves_what_was_there_before_it() {
    let mut office = Office::new();
    office.deploy("loud", "1", &["say", "shout"], &[], &[]);
    office.done(activate("loud", "1"));
    let step = office.done(rollback("loud"));
    assert_eq!(step.to, "talk 0.1.0 (built in), nothing");
    assert_eq!(office.handler("acme", "say"), "talk 0.1.0");
    assert!(office.refused(rollback("loud")).contains("not in force"));
}

#[test]
fn a_kind_that_a_new_version_gives_up_comes_back_with_the_old_one() {
    let mut office = Office::with_polls();
    office.grant_kv();
    office.done(activate("poll", "2"));
    let step = office.done(activate("poll", "3"));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["nothing", "poll 3"]);
    assert!(step.notes.contains(&"poll gives up vote; now in force: nothing".to_owned()), "{:?}", step.notes);
    office.done(rollback("poll"));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["poll 2", "poll 2"]);
    let watch = office.catalogue.routes.iter().find(|route| matches!(route.subject, Subject::Watches(_))).unwrap();
    assert_eq!(watch.stable, Target::BuiltIn, "it watches no more");
}

#[test]
fn a_rollback_does_not_bring_back_a_kind_that_was_given_up_earlier() {
    let mut office = Office::new();
    office.deploy("poll", "1", &["vote", "close"], &[], &[]);
    office.deploy("poll", "2", &["vote"], &[], &[]);
    office.deploy("poll", "3", &["vote"], &[], &[]);
    for version in ["1", "2", "3"] {
        office.done(activate("poll", version));
    }
    office.done(rollback("poll"));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["poll 2", "nothing"]);
    office.done(rollback("poll"));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["poll 1", "poll 1"]);
}

#[test]
fn a_tenants_decision_goes_before_that_for_all_until_it_is_given_up() {
    let mut office = Office::with_polls();
    office.done(activate_for("acme", "poll", "1"));
    assert_eq!(["acme", "apex"].map(|tenant| office.handler(tenant, "vote")), ["poll 1", "nothing"]);
    office.grant_kv();
    let step = office.done(activate("poll", "2"));
    assert_eq!(step.notes, ["tenants that keep routes of their own: acme for vote: poll 1 (generation 1)"]);
    assert_eq!(["acme", "apex"].map(|tenant| office.handler(tenant, "vote")), ["poll 1", "poll 2"]);
    let step = office.done(Command::Follow(name("poll"), slug("acme")));
    assert_eq!((step.from.as_str(), step.to.as_str()), ("poll 1 (generation 1)", "poll 2 (generation 2)"));
    assert_eq!(office.handler("acme", "vote"), "poll 2");
    assert!(office.done(Command::Follow(name("poll"), slug("acme"))).change.is_none());
}

#[test]
fn rolling_a_tenants_only_decision_back_means_to_follow_all_again() {
    let mut office = Office::with_polls();
    office.done(activate("poll", "1"));
    office.done(activate_for("acme", "poll", "3"));
    assert_eq!(office.handler("acme", "close"), "poll 3");
    office.done(Command::Rollback(name("poll"), of("acme")));
    assert!(office.catalogue.routes.iter().all(|route| route.scope == Scope::All));
}

#[test]
fn a_canary_can_be_widened_promoted_and_rolled_back() {
    let mut office = Office::with_polls();
    office.grant_kv();
    office.done(activate("poll", "1"));
    office.done(canary("2", 5));
    let step = office.done(canary("2", 50));
    assert_eq!(step.to, "poll 2 (generation 2), 50% of the channels");
    assert_eq!(office.candidate(&Scope::All, "close"), Some(Trial::Canary(50)), "a kind that is new is tried out, too");
    assert_eq!((office.catalogue.generations.len(), office.handler("acme", "vote")), (2, "poll 1".to_owned()));

    let step = office.done(rollback("poll"));
    assert_eq!(step.from, "poll 2 (generation 2) on 50% of the channels");
    assert_eq!((office.candidate(&Scope::All, "vote"), office.handler("acme", "vote")), (None, "poll 1".to_owned()));

    office.done(canary("2", 5));
    office.done(Command::Promote(name("poll"), Scope::All));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["poll 2", "poll 2"]);
    assert_eq!(office.candidate(&Scope::All, "vote"), None);
    office.done(rollback("poll"));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["poll 1", "nothing"]);
}

#[test]
fn one_thing_is_tried_out_at_a_time() {
    let mut office = Office::with_polls();
    office.deploy("vox", "1", &["vote"], &[], &[]);
    office.done(activate("poll", "1"));
    assert!(office.refused(canary("1", 5)).contains("already in force for all tenants"));
    office.done(Command::Try(choice("vox", "1", Scope::All), Trial::Shadow));
    office.grant_kv();
    let line = office.refused(canary("2", 5));
    assert!(line.contains("vox 1 (generation 2) is already on trial for vote"), "{line}");
    office.done(rollback("vox"));
    office.done(canary("2", 5));
    office.done(canary("3", 5));
    assert_eq!(office.candidate(&Scope::All, "vote"), None, "another version of the plugin takes the trial over");
    assert_eq!(office.candidate(&Scope::All, "close"), Some(Trial::Canary(5)));
    let step = office.done(activate("poll", "2"));
    assert!(step.notes.iter().any(|note| note.contains("the trial of poll 3")), "{:?}", step.notes);
}

#[test]
fn a_tenants_trial_leaves_nothing_behind() {
    let mut office = Office::with_polls();
    office.grant_kv();
    office.done(activate("poll", "1"));
    office.done(Command::Try(choice("poll", "2", of("acme")), Trial::Canary(10)));
    assert_eq!(office.candidate(&of("acme"), "vote"), Some(Trial::Canary(10)));
    office.done(Command::Rollback(name("poll"), of("acme")));
    assert!(office.catalogue.routes.iter().all(|route| route.scope == Scope::All), "acme follows all again");
}

#[test]
fn disabling_for_all_reaches_tenants_with_routes_of_their_own() {
    let mut office = Office::with_polls();
    office.done(activate("poll", "1"));
    office.done(activate_for("acme", "poll", "3"));
    office.done(activate_for("apex", "talk", "built-in"));
    office.done(Command::Disable(name("poll"), Scope::All));
    assert_eq!(["vote", "close"].map(|kind| office.handler("acme", kind)), ["off", "off"]);
    assert_eq!(office.handler("apex", "say"), "talk 0.1.0");
    office.done(rollback("poll"));
    assert_eq!(office.handler("apex", "vote"), "poll 1", "a rollback undoes it");
}

#[test]
fn disabling_for_a_tenant_leaves_the_others_alone() {
    let mut office = Office::new();
    office.done(Command::Disable(name("talk"), of("acme")));
    assert_eq!(["acme", "apex"].map(|tenant| office.handler(tenant, "say")), ["off", "talk 0.1.0"]);
    office.done(Command::Follow(name("talk"), slug("acme")));
    assert_eq!(office.handler("acme", "say"), "talk 0.1.0");
}

#[test]
fn a_configuration_makes_a_generation_and_stays_with_the_next_version() {
    let mut office = Office::with_polls();
    let with = |version: &str, config: &str| {
        Command::Activate(Choice { config: Some(config.to_owned()), ..choice("poll", version, Scope::All) })
    };
    office.done(with("1", "short"));
    assert_eq!(office.done(with("1", "long")).to, "poll 1 (generation 2)");
    assert_eq!(office.done(with("1", "short")).to, "poll 1 (generation 1)", "the same again is the same generation");
    office.done(activate("poll", "3"));
    assert_eq!(office.catalogue.generations.last().unwrap().config, "short");
    office.done(with("3", ""));
    assert_eq!(office.catalogue.generations.last().unwrap().config, "");
}

#[test]
fn a_broken_circuit_gives_one_tenant_what_was_there_before() {
    let mut office = Office::with_polls();
    office.grant_kv();
    office.done(activate("poll", "1"));
    office.done(activate("poll", "2"));
    let step = office.done(circuit("acme", 2));
    assert_eq!(step.from, "poll 2 (generation 2): 3 traps in a row");
    assert_eq!(["acme", "apex"].map(|tenant| office.handler(tenant, "vote")), ["poll 1", "poll 2"]);
    assert_eq!(office.handler("acme", "close"), "nothing", "a generation is left as a whole");
    assert!(office.refused(circuit("acme", 2)).contains("no longer in force for tenant acme"), "it is late");
    office.done(Command::Rollback(name("poll"), of("acme")));
    assert_eq!(office.handler("acme", "vote"), "poll 2");
}

#[test]
fn a_circuit_breaks_within_a_tenants_own_history() {
    let mut office = Office::with_polls();
    office.done(activate("poll", "1"));
    office.deploy("poll", "4", &["vote"], &[], &[]);
    office.done(activate_for("acme", "poll", "4"));
    office.done(circuit("acme", 2));
    assert_eq!(office.handler("acme", "vote"), "poll 1", "what all have");
}

#[test]
fn a_circuit_with_nothing_to_go_back_to_changes_nothing() {
    let mut office = Office::with_polls();
    office.done(activate("poll", "1"));
    assert!(office.refused(circuit("acme", 1)).contains("nothing was in force before"));
}

#[test]
fn a_canary_that_does_worse_is_dropped_wherever_it_is_tried_out() {
    let mut office = Office::with_polls();
    office.grant_kv();
    office.done(activate("poll", "1"));
    office.done(canary("2", 5));
    office.done(Command::Try(choice("poll", "2", of("acme")), Trial::Canary(50)));
    let abandon = Command::Abandon { plugin: name("poll"), generation: 2, reason: "p99 is 80 ms, was 3 ms".to_owned() };
    let step = office.done(abandon.clone());
    assert!(step.from.contains("5% of the channels") && step.from.ends_with("was 3 ms"), "{}", step.from);
    assert!(office.catalogue.routes.iter().all(|route| route.candidate.is_none()));
    assert!(office.refused(abandon).contains("not on trial"));
}

#[test]
fn limits_policies_and_consents_are_decided_by_scope_and_taken_back() {
    let mut office = Office::with_polls();
    let limit = |value: Option<u64>| Command::Limits(name("poll"), of("acme"), [("cpu_ms".to_owned(), value)].into());
    assert_eq!(office.done(limit(Some(20))).to, "cpu_ms=20");
    assert!(office.done(limit(Some(20))).change.is_none());
    assert!(office.refused(limit(Some(5_000))).contains("cpu_ms=5000"));
    office.done(Command::Grants(name("poll"), of("acme"), Edit::Set(BTreeSet::from([Import::Kv]))));
    assert_eq!(office.done(limit(None)).to, "the defaults");
    assert!(office.catalogue.plugin_policies[0].grants.is_some(), "grants and limits leave each other alone");

    let kind: Kind = "say".parse().unwrap();
    let policy = |policy| Command::Policy(kind.clone(), Scope::All, policy);
    assert_eq!(office.done(policy(Some(FailurePolicy::Open))).from, "default");
    assert_eq!(office.done(policy(None)).from, "open");
    assert!(office.catalogue.kind_policies.is_empty());

    office.done(Command::Consent(slug("acme"), true));
    assert!(office.done(Command::Consent(slug("acme"), true)).change.is_none());
    office.done(Command::Consent(slug("acme"), false));
    assert!(office.catalogue.consents.is_empty());
}
