//! Node status: how far a node has come with the catalogue, and what it routes if it cannot follow completely.

use crate::model::catalogue::{GenerationId, Route, Target};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// The revision it follows.
    pub revision: u64,
    /// What it could not do of that revision.
    pub error: Option<String>,
}

/// The decided routes, limited to what is prepared. A route to anything else stays as it was on this node. At start-up,
/// when there was nothing before, it leads nowhere: an event must not reach the wrong generation.
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
                // Nothing was routed here before: the route for all tenants, or the built-in plugin, stays in force.
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
