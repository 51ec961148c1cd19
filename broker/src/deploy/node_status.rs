//! How far a node has come with the catalogue, and what it routes when it cannot come all the way.

use crate::model::catalogue::{GenerationId, Route, Target};

/// How far a node has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// The revision that it follows.
    pub revision: u64,
    /// What it could not do of it.
    pub error: Option<String>,
}

/// The decided routes, as far as they lead to what is prepared. One that does not stays as it was on this node; at a start,
/// when nothing was, it leads nowhere, for an event must not go to the wrong generation.
pub(super) fn within_reach(
    decided: &[Route],
    running: Option<&[Route]>,
    prepared: impl Fn(GenerationId) -> bool,
) -> Vec<Route> {
    let reaches = |target: Target| match target {
        Target::Generation(id) => prepared(id),
        Target::Off | Target::BuiltIn => true,
    };
    let routes = decided.iter().filter_map(|route| {
        let mut route = route.clone();
        route.candidate = route.candidate.filter(|candidate| prepared(candidate.generation));
        if !reaches(route.stable) {
            route.stable = match running {
                None => Target::Off,
                // Nothing was decided here: what is decided for all, or built in, goes on.
                Some(running) => {
                    let before =
                        running.iter().find(|known| known.scope == route.scope && known.subject == route.subject)?;
                    if reaches(before.stable) { before.stable } else { Target::Off }
                }
            };
        }
        Some(route)
    });
    routes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue::{Candidate, Scope, Subject, Trial};

    fn route(stable: Target, candidate: Option<u64>) -> Route {
        let candidate = candidate.map(|generation| Candidate { generation, trial: Trial::Canary(5) });
        let subject = Subject::Handles("vote".parse().unwrap());
        Route { scope: Scope::All, subject, stable, previous: Vec::new(), candidate }
    }

    fn reached(decided: Route, running: Option<&[Route]>) -> Vec<(Target, bool)> {
        let routes = within_reach(&[decided], running, |id| id != 13);
        routes.iter().map(|route| (route.stable, route.candidate.is_some())).collect()
    }

    #[test]
    fn what_cannot_be_prepared_leaves_its_route_as_it_was() {
        let before = [route(Target::Generation(1), None)];
        let decided = || route(Target::Generation(13), None);
        assert_eq!(reached(decided(), Some(&before)), [(Target::Generation(1), false)]);
        assert_eq!(reached(decided(), Some(&[])), [], "a route that is new is not there yet");
        assert_eq!(reached(decided(), None), [(Target::Off, false)], "a start has nothing to go on with");
        let lost = [route(Target::Generation(13), None)];
        assert_eq!(reached(decided(), Some(&lost)), [(Target::Off, false)]);
    }

    #[test]
    fn what_is_prepared_goes_ahead_without_a_candidate_that_is_not() {
        assert_eq!(reached(route(Target::Generation(2), Some(13)), None), [(Target::Generation(2), false)]);
        assert_eq!(reached(route(Target::BuiltIn, Some(3)), None), [(Target::BuiltIn, true)]);
    }
}
