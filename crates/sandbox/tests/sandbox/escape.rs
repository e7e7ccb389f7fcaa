//! The known ways out of a container, tried one by one in a real one.

use sandbox::{Network, Spec};

use crate::world::{World, run};

const ATTEMPTS: &str = include_str!("escape.py");

/// Attempts in the list; fewer lines would mean that the script broke off.
const AT_LEAST: usize = 110;

#[tokio::test]
async fn no_known_way_leads_out_of_a_container() {
    let world = World::new().await;
    let sandbox = world.sandboxes.open(&Spec { network: Network::None, ..world.spec() }).await.expect("opens");
    sandbox.write_file("/tmp/escape.py", ATTEMPTS.as_bytes()).await.expect("writes");
    let (output, exit) = run(&sandbox, "python3 /tmp/escape.py").await;
    let (tried, escaped): (Vec<&str>, Vec<&str>) = output
        .lines()
        .filter(|line| line.starts_with("refused ") || line.starts_with("ESCAPED "))
        .partition(|line| line.starts_with("refused "));
    println!(
        "{{\"test\": \"S7\", \"n\": {}, \"escaped\": {}, \"pass\": {}}}",
        tried.len() + escaped.len(),
        escaped.len(),
        escaped.is_empty()
    );
    assert_eq!(escaped, Vec::<&str>::new(), "{output}");
    assert!(tried.len() >= AT_LEAST, "{exit:?} after {}:\n{output}", tried.len());
}
