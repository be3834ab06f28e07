//! A referee that never objects proves nothing: each step of the rewriter is done
//! wrong in turn, and whatever comes out otherwise than it should is refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::corpus::{Case, cases, files};
use super::planner::Planner;
use super::postgres::Postgres;
use crate::policy::mask;
use crate::sql::step::{STEPS, Step, asked, while_wrong};
use crate::sql::{Denial, Reason};

type Outcome = Result<Vec<String>, Denial>;

fn outcome(planner: &Planner, case: &Case) -> Outcome {
    let plans = planner.plan(&case.caller, &case.statement, &[])?;
    Ok(plans.iter().map(|plan| plan.text().to_owned()).collect())
}

fn bare(texts: &[String]) -> String {
    texts.concat().replace('"', "")
}

fn by_the_referee(denial: &Denial) -> bool {
    denial.reason == Reason::Referee && denial.message.contains("refused by the referee")
}

#[test]
fn each_step_done_wrong_is_caught() {
    let postgres = Postgres::start();
    let planner = Planner::new(&postgres);
    let version = planner.catalog.version / 10_000;
    let all: Vec<Case> = files()
        .iter()
        .flat_map(|file| cases(&std::fs::read_to_string(file).unwrap()).1)
        .filter(|case| case.servers.contains(&version))
        .collect();
    let masks = mask::NAMES.iter().copied().map(Step::Mask);
    let steps = STEPS.iter().copied().chain(masks);
    // To Postgres 18, nothing that the grammar reads is new.
    let steps = steps.filter(|step| *step != Step::Version || version < 18);
    // No older one has columns that are computed when they are read.
    let steps = steps.filter(|step| *step != Step::Computed || version >= 18);
    let mut caught: BTreeMap<Step, usize> = steps.map(|step| (step, 0)).collect();
    let mut missed = String::new();
    for case in &all {
        let (right, steps) = asked(|| outcome(&planner, case));
        for step in steps {
            let other = while_wrong(step, || outcome(&planner, case));
            match (&right, &other) {
                (_, Err(denial)) if by_the_referee(denial) => {
                    *caught.entry(step).or_default() += 1;
                }
                // It came to nothing, or was refused for something else.
                (_, Err(_)) => {}
                // Quotes around a name that needs none say nothing.
                (Ok(right), Ok(other)) if bare(right) == bare(other) => {}
                (_, Ok(other)) => {
                    writeln!(
                        missed,
                        "{step:?}: {} ({})\n  {}\n  {other:?}",
                        case.title, case.caller, case.statement
                    )
                    .unwrap();
                }
            }
        }
    }
    for (step, count) in &caught {
        println!("{count:5} {step:?}");
    }
    assert!(missed.is_empty(), "{missed}");
    let idle: Vec<_> = caught.iter().filter(|(_, count)| **count == 0).collect();
    assert!(
        idle.is_empty(),
        "no case shows that these are caught: {idle:?}"
    );
}
