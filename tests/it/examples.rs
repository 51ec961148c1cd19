//! The example plugins, each as its users meet it: loaded into a broker, with members at real sockets.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Cluster, Member, Settings, Socket, number, plugin, text};

struct Office {
    app: App,
    alice: Member,
    bob: Member,
    lobby: Channel,
    /// Where alice is.
    hers: Socket,
    /// Where bob is.
    his: Socket,
}

async fn office(package: &'static str) -> Office {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin(package))).await;
    app.operator().be_patient_with(package).await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (hers, his) = (alice.join(&lobby).await, bob.join(&lobby).await);
    Office { app, alice, bob, lobby, hers, his }
}

/// Alice says something; returns its id.
async fn says(socket: &mut Socket, message: &str) -> String {
    text(&socket.say(message).await, "message_id").to_owned()
}

#[tokio::test]
async fn a_reaction_is_taken_back_by_the_second_tap_and_repeated_by_none() {
    let mut office = office("reaction").await;
    let message = says(&mut office.hers, "lunch?").await;
    let tap = |id: &str| json!({"type": "message.reaction", "id": id, "message_id": message, "emoji": "👍"});
    let first = office.his.acked(tap("first")).await;
    let again = office.his.acked(tap("first")).await;
    assert_eq!((&again["message_id"], &again["duplicate"]), (&first["message_id"], &json!(true)));
    office.his.acked(tap("second")).await;
    for added in [true, false] {
        let heard = office.hers.next_of("message.reaction").await;
        assert_eq!(heard["message"]["content"], json!({"emoji": "👍", "added": added}), "{heard}");
        assert_eq!(heard["message"]["reply_to"], message.as_str());
        assert_eq!(heard["message"]["sender"], office.bob.as_json());
    }
    office.hers.expect_silence("message.reaction").await;
}

#[tokio::test]
async fn taps_at_the_same_moment_come_one_after_the_other() {
    const TAPS: usize = 6;
    let mut office = office("reaction").await;
    let message = says(&mut office.hers, "lunch?").await;
    let mut sockets = join_all((0..TAPS).map(|_| office.bob.join(&office.lobby))).await;
    let taps = sockets.iter_mut().map(|socket| {
        let frame = json!({"type": "message.reaction", "message_id": message, "emoji": "👍"});
        socket.request(frame)
    });
    let answers = join_all(taps).await;
    let history = office.alice.history(&office.lobby).await;
    let states: Vec<&Value> = history.iter().skip(1).map(|reaction| &reaction["content"]["added"]).collect();
    let acked = answers.iter().filter(|answer| answer["type"] == "ack").count();
    println!("{acked} of {TAPS} taps at once were done, the others told to try again");
    // Who meets others three times more is told to try again; with so many for one key that may happen.
    assert!(answers.iter().all(|answer| answer["type"] == "ack" || answer["code"] == 205), "{answers:?}");
    assert!(acked > 0);
    let expected: Vec<Value> = (0..acked).map(|place| json!(place % 2 == 0)).collect();
    assert_eq!(states, expected.iter().collect::<Vec<_>>(), "on, off, on, off");
}

#[tokio::test]
async fn an_edited_message_reads_so_everywhere_and_who_was_away_learns_of_it() {
    let mut office = office("edit").await;
    let message = says(&mut office.hers, "helo").await;
    office.his.next_of("chat.message").await;
    let place = json!({"epoch": office.his.greeting["epoch"], "seq": 1});
    let edit = json!({"type": "message.edit", "message_id": message, "content": "hello"});
    let refused = office.his.refused(edit.clone()).await;
    assert_eq!((&refused["code"], &refused["message"]), (&json!(200), &json!("only its author may change a message")));

    let ack = office.hers.acked(edit).await;
    let heard = office.his.next_of("message.edit").await;
    assert_eq!(heard["message"]["reply_to"], message.as_str());
    assert_eq!(heard["seq"], ack["seq"]);
    let signal = office.his.next_of("message.edited").await;
    assert_eq!((&signal["message_id"], &signal["content"]), (&json!(message), &json!("hello")));
    let history = office.bob.history(&office.lobby).await;
    assert_eq!(history[0]["content"], "hello");
    assert!(history[0]["edited_at"].is_string() && history[0]["deleted_at"].is_null(), "{}", history[0]);

    let position = format!("{}:{}", text(&place, "epoch"), number(&place, "seq"));
    let mut back = office.bob.knock_with(&office.lobby, &[("since", &position)]).await;
    assert_eq!(back.next_of("message.edit").await["message"]["reply_to"], message.as_str());
}

#[tokio::test]
async fn a_deleted_message_leaves_its_place_and_nothing_else() {
    let mut office = office("edit").await;
    let message = says(&mut office.hers, "my secret plan").await;
    let edit = json!({"type": "message.edit", "message_id": message, "content": "my secret scheme"});
    office.hers.acked(edit.clone()).await;
    let delete = json!({"type": "message.delete", "id": "gone", "message_id": message});
    office.hers.acked(delete.clone()).await;
    office.his.next_of("message.delete").await;
    let history = office.bob.history(&office.lobby).await;
    assert_eq!((&history[0]["content"], &history[0]["seq"]), (&Value::Null, &json!(1)));
    assert!(history[0]["deleted_at"].is_string());
    assert!(!Value::from(history).to_string().contains("secret"), "no text of it is left anywhere");
    assert_eq!(office.hers.refused(edit).await["message"], "the message was deleted");
    let again = office.hers.acked(delete).await;
    assert_eq!(again["duplicate"], true, "a lost ack is given again, though nothing is left to delete");
}

#[tokio::test]
async fn a_word_filter_without_words_does_not_start() {
    let settings = Settings::bare();
    let component = plugin("word-filter");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--plugin", component];
    let exit = settings.run(&serve).await;
    let error: Vec<&str> = exit.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((exit.code(), error.len()), (Some(1), 1), "{exit:?}");
    assert!(error[0].contains("the configuration must be like"), "{error:?}");
}

#[tokio::test]
async fn a_word_filter_is_given_other_words_while_people_talk() {
    let component = plugin("word-filter");
    let mut office = office("reaction").await;
    let operator = office.app.operator();
    operator.deploy(component).await;
    for (config, heard) in
        [(r#"{"replace":{"darn":"d**n"}}"#, "d**n that heck"), (r#"{"replace":{"heck":"h**k"}}"#, "darn that h**k")]
    {
        operator.activate("word-filter", "0.1.0", None, config).await;
        says(&mut office.hers, "darn that heck").await;
        assert_eq!(office.his.next_of("chat.message").await["message"]["content"], heard);
    }
    operator.activate("word-filter", "0.1.0", None, r#"{"refuse":["heck"]}"#).await;
    let error = office.hers.refused(json!({"type": "chat.message", "message": "what the heck"})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(200), &json!("`heck` is not said here")));
    operator.rollback("word-filter", None).await;
    says(&mut office.hers, "darn that heck").await;
    assert_eq!(office.his.next_of("chat.message").await["message"]["content"], "darn that h**k");
}

#[tokio::test]
async fn a_bot_answers_what_is_said_to_it_and_nothing_else() {
    let mut office = office("slash-bot").await;
    office.hers.say("is there a bot?").await;
    let asked = says(&mut office.hers, "/roll 2d6").await;
    let reply = office.his.next_of("bot.reply").await;
    assert_eq!(reply["message"]["reply_to"], asked.as_str());
    let content = text(&reply["message"], "content").to_owned();
    let dice: Vec<u32> = content.split([' ', '+', '=']).filter_map(|number| number.parse().ok()).collect();
    assert!(matches!(dice[..], [a @ 1..=6, b @ 1..=6, sum] if a + b == sum), "{content}");
    says(&mut office.hers, "/help").await;
    office.his.next_of("bot.reply").await;
    let history = office.alice.history(&office.lobby).await;
    let kinds: Vec<&str> = history.iter().map(|message| text(message, "kind")).collect();
    assert_eq!(kinds, ["chat.message", "chat.message", "bot.reply", "chat.message", "bot.reply"]);
    assert_eq!(history[2]["content"], content.as_str(), "all read the same dice");
    drop(office.app);
}

/// Half of them on each node, all at once, as often as they are told that others were first.
#[tokio::test]
async fn of_members_who_vote_at_the_same_moment_on_two_nodes_every_vote_counts() {
    const MEMBERS: usize = 8;
    let cluster = Cluster::two_nodes_with(|node| node.with("SWITCHBOARD_PLUGIN", plugin("poll"))).await;
    let acme = cluster.tenant("acme").await;
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        members.push(acme.member(&format!("member-{n}")).await);
    }
    let lobby = acme.channel("lobby", &members.iter().collect::<Vec<_>>()).await;
    let doors = [cluster.a.door(), cluster.b.door()];
    let mut sockets = Vec::new();
    for (n, member) in members.iter().enumerate() {
        sockets.push(member.at(doors[n % 2]).join(&lobby).await);
    }
    let create = json!({"type": "poll.create", "question": "Lunch?", "options": ["soup", "salad"]});
    let poll = text(&sockets[0].acked(create).await, "message_id").to_owned();

    let votes = sockets.iter_mut().enumerate().map(async |(n, socket)| {
        let frame = json!({"type": "poll.vote", "id": "my vote", "poll_id": poll, "option": usize::from(n >= 3)});
        let mut tries = 1;
        loop {
            let answer = socket.request(frame.clone()).await;
            if answer["type"] == "ack" {
                return tries;
            }
            assert_eq!(answer["code"], 205, "{answer}");
            tries += 1;
        }
    });
    let tries: Vec<u32> = join_all(votes).await;
    let conflicts = join(
        cluster.a.broker().metric("switchboard_kv_conflicts_total", &[]),
        cluster.b.broker().metric("switchboard_kv_conflicts_total", &[]),
    );
    println!("{MEMBERS} votes at once, conflicts on each node: {:?}, frames sent: {tries:?}", conflicts.await);
    let close = json!({"type": "poll.close", "id": "the end", "poll_id": poll});
    assert_eq!(sockets[1].refused(close.clone()).await["message"], "only who made a poll may close it");
    sockets[0].acked(close.clone()).await;
    let closed = sockets[MEMBERS - 1].next_of("poll.closed").await;
    assert_eq!(closed["message"]["content"], json!({"tally": [3, MEMBERS - 3]}));
    assert_eq!(closed["message"]["reply_to"], poll.as_str());
    let late = json!({"type": "poll.vote", "poll_id": poll, "option": 0});
    assert_eq!(sockets[2].refused(late).await["message"], "the poll is closed");
    assert_eq!(sockets[0].acked(close).await["duplicate"], true, "closing again is answered as the first time");
}
