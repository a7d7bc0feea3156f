"""What the validation split says: other phrases, products and frames than in training."""

from __future__ import annotations

from hf_trainpipe.quickstart.grammar import Intent, Wording

__all__ = ["VALIDATION"]

VALIDATION = Wording(
    slots={
        "item": (
            "rug", "drill", "tent", "hair dryer", "monitor", "bathrobe", "mattress", "vacuum cleaner",
            "bookshelf", "guitar", "raincoat", "baby stroller",
        ),
        "order": (
            "purchase 5512-A", "my purchase", "reference 90317", "ref 66-204",
        ),
        "day": (
            "the other day", "at the weekend", "a fortnight ago", "this morning", "on the 3rd",
            "last month",
        ),
        "due": (
            "the day before yesterday", "Wednesday at the latest", "the 21st", "early last week",
        ),
        "sum": (
            "65 quid", "$112.50", "€8.90", "€230",
        ),
        "name": (
            "Priya", "Lars", "Mrs Okafor", "Ben", "Yuki",
        ),
    },
    greetings=(
        "Good evening,", "Greetings.", "Hey folks,", "Hello again,", "Evening,", "To whom it may concern,",
    ),
    contexts=(
        "So I got myself a <item> from your shop <day>.",
        "My reference is {90317|5512-A}.",
        "Long-time shopper here.",
        "Your chat bot was no use, so I'm writing.",
        "First time shopping with you.",
    ),
    closings=(
        "Appreciate it.", "Looking forward to your answer.", "Regards, <name>", "Ta!",
        "Kind regards, <name>", "Hope you can sort this.", "Not impressed.", "Have a nice day.",
    ),
    asks=(
        "Would it be possible to <wish>?",
        "I'm hoping to <wish>.",
        "What do I have to do to <wish>?",
        "I was wondering how to <wish>.",
    ),
    contrasts=(
        "Nobody asked to <other>! All I'm after is to <wish>.",
        "To be clear, this isn't an attempt to <other>; my aim is simply to <wish>.",
        "Your colleague thought I meant to <other>. Wrong, I'm trying to <wish>.",
        "Rather than <other> I would prefer to <wish>.",
    ),
    dismissals=(
        "No need to <other>. <core>",
        "<core> There's no reason to <other>, before you offer.",
        "The FAQ only explains how to <other>, which isn't my situation. <core>",
    ),
    doubles=(
        "<core> Oh and <side>, though never mind that now.",
        "Even though <side>, here is what I'm writing about. <core>",
        "<core> On a side note, <side>.",
        "<core> That is the important bit. Separately, <side>.",
    ),
    intents={
        "track_order": Intent(
            cores=(
                "Any idea {what happened to|what's become of} {my delivery|the <item>}? I expected it by "
                "<due>.",
                "The postman {went past|skipped us} again, {the <item> was meant to be here|it should "
                "have come} <due>.",
                "Still nothing in the mailbox and <due> has come and gone.",
                "Your site claims it was handed over to me, yet {nobody rang|my porch is empty}.",
                "The shipment seems stuck at {the depot|customs|a sorting centre}, it hasn't moved in "
                "days.",
                "How much longer until {the <item> gets here|it reaches me}?",
                "I'd given up hope of ever seeing the <item>, it left your warehouse <day>.",
                "Did {<order>|the <item>} leave your warehouse already, is it with the courier?",
            ),
            wishes=(
                "learn where the courier has got to", "see how far the shipment is",
                "get an estimated arrival day for the <item>", "locate a lost shipment",
            ),
            shorts=(
                "shipment lost?", "still waiting on the <item>", "stuck at the depot for a week",
                "eta of the <item>",
            ),
            sides=(
                "the driver was a little behind schedule", "shipping took its time",
                "an earlier shipment turned up late",
            ),
        ),
        "cancel_order": Intent(
            cores=(
                "Kindly call off <order>, I won't be needing the <item>.",
                "Scrap {my purchase|the <item>} before it goes out, I've had second thoughts.",
                "Oops, my finger slipped and I bought a <item>, make it go away please.",
                "I don't need the <item> after all, a friend gave me hers, so don't send it.",
                "{I'd rather you didn't ship|Hold off on shipping} the <item>, {we no longer want "
                "it|plans changed}.",
                "How long have I got to call off {<order>|the purchase}?",
                "Just placed this {five minutes|half an hour} ago and regret it, can it be undone?",
                "Please annul {<order>|the purchase of the <item>}, it was a mistake.",
            ),
            wishes=(
                "call off the purchase", "withdraw <order> while it's still in your warehouse",
                "undo what I just bought", "back out of buying the <item>",
            ),
            shorts=(
                "call off <order>", "bought by accident, undo", "don't ship the <item>",
                "withdraw purchase",
            ),
            sides=(
                "I nearly called the whole thing off", "an earlier purchase was called off",
                "I could still back out of the <item>",
            ),
        ),
        "refund": Intent(
            cores=(
                "My return, the <item>, got to your warehouse weeks ago, where's my {reimbursement|cash}?",
                "The <item> just isn't my taste. How do I ship it back to you?",
                "I'd like to be reimbursed, the <item> didn't live up to the photos.",
                "Within how many days may I hand {the <item>|it} back?",
                "The <item> I sent off as a return reached you <day>, yet my <sum> weren't reimbursed.",
                "Doesn't suit our living room, so back it goes. Who pays the postage?",
                "Could somebody collect the <item>? We tried it and aren't keeping it.",
                "Dropped the <item> off at your return point <day>, the <sum> should have been repaid by "
                "now.",
            ),
            wishes=(
                "be reimbursed for the <item>", "hand the <item> back",
                "get reimbursed the <sum> for my return", "ship back something we aren't keeping",
            ),
            shorts=(
                "reimbursement for the <item>?", "sending the <item> back", "not keeping the <item>",
                "reimburse me for my return",
            ),
            sides=(
                "you reimbursed me for another thing", "I decided against sending the <item> back",
                "the money for an earlier return showed up",
            ),
        ),
        "damaged_or_wrong": Intent(
            cores=(
                "Opened the parcel and the <item> was in pieces.",
                "This isn't what I picked: a {blue|smaller|cheaper} <item> turned up instead.",
                "The <item> gave up the ghost after {an hour|a week}.",
                "Two bolts short! I can't put the <item> together.",
                "{One side of the <item> is bent|The <item> is dented all over}, it must have been "
                "dropped.",
                "Somebody else's <item> was in my parcel instead of mine.",
                "The <item> {makes a burning smell|rattles and won't start}, surely that isn't normal.",
                "There was supposed to be {a charger|a manual and a bag} in the package as well, there "
                "wasn't.",
                "The <item> {came torn|has stains all over it}.",
            ),
            wishes=(
                "swap a smashed <item> for one in one piece", "let you know a torn <item> turned up",
                "have the missing bolts sent over", "complain that the <item> is dead on arrival",
            ),
            shorts=(
                "<item> smashed", "torn <item>", "bolts not in the package", "not the <item> I picked",
                "<item> dead after a day",
            ),
            sides=(
                "the packaging looked battered", "an earlier <item> came dented",
                "one corner is slightly bent",
            ),
        ),
        "payment": Intent(
            cores=(
                "My bank statement lists the <item> two times.",
                "Your till won't take my Visa, although it's fine {everywhere else|in other shops}.",
                "My bank debited <sum> for you and I have no clue what for.",
                "I typed in the promo code but still got asked for the full amount.",
                "Every time I hit 'pay' {the screen goes white|it spins forever}.",
                "The amount taken is <sum> higher than the total I agreed to.",
                "My accountant wants the paperwork with VAT for <order>.",
                "Do you take {bank transfers|Apple Pay|gift cards}?",
                "The bank took the money, yet your site insists the bill is open.",
            ),
            wishes=(
                "settle the bill by bank transfer", "understand why <sum> was debited",
                "get the VAT paperwork for <order>", "redeem my gift card at the till",
                "have a duplicate debit looked into",
            ),
            shorts=(
                "debited two times", "Visa rejected", "promo code ignored", "VAT receipt for <order>",
                "odd debit of <sum>",
            ),
            sides=(
                "my bank sent me the statement", "the gift card worked nicely",
                "<sum> was debited as agreed",
            ),
        ),
        "account_access": Intent(
            cores=(
                "You keep telling me my credentials are invalid.",
                "I'm shut out, the {text message|SMS} with the six digits doesn't reach me.",
                "Can't remember what I chose as a passphrase and no mail arrives when I ask for a new one.",
                "After the update the app {makes me sign in|throws me out} each morning.",
                "My profile was {suspended|frozen}, I can't get in.",
                "A stranger seems to be using my profile, {there's a sign-in from abroad|the mail "
                "address was swapped}.",
                "How do I get in {without|if I've lost} my old phone? It had the authenticator.",
                "The sign-in page {just reloads|goes round in circles}.",
            ),
            wishes=(
                "get back into my profile", "choose a new passphrase", "get past the sign-in page",
                "unfreeze my profile so that I can sign in",
            ),
            shorts=(
                "shut out of my profile", "sign-in page loops", "credentials invalid", "no SMS with digits",
            ),
            sides=(
                "signing in took me three attempts", "I picked a new passphrase <day>",
                "my profile was frozen once",
            ),
        ),
        "change_order": Intent(
            cores=(
                "We're relocating, the <item> should go to {our new flat|my sister's} now.",
                "Silly me, the flat number is missing on {<order>|my purchase}, it's 4B.",
                "Make it the green <item> rather than the grey, if it hasn't been packed.",
                "I'm on holiday that week, bring the <item> {after the 20th|a week later}.",
                "Put a second <item> into {<order>|the same parcel} as well, if it hasn't been packed.",
                "Leave the <item> with {my neighbour|the shop downstairs} instead of my door.",
                "The recipient's surname is misspelt on <order>, could you fix it?",
                "I'd prefer a {medium|double} after all, same <item>, same purchase.",
            ),
            wishes=(
                "have the <item> brought to another place", "reschedule when the <item> is brought",
                "fix the flat number on <order>", "make my <item> a size larger while it's being packed",
            ),
            shorts=(
                "deliver to my neighbour", "flat number missing", "bring it a week later",
                "make it the green one",
            ),
            sides=(
                "we relocated in spring", "I swapped my mobile number", "you already moved the date for me",
            ),
        ),
        "product_question": Intent(
            cores=(
                "Thinking of getting the <item>: {would it suit a beginner|is it loud|can kids use it}?",
                "Are you expecting more of the {green|large} <item> any time soon?",
                "I'm in between sizes, {do I go up|would you go for the larger <item>}?",
                "Which of your <item> options is best for {a small room|camping|daily use}?",
                "What are the dimensions of the <item>?",
                "Can the <item> go in the {washing machine|rain|oven}?",
                "Is the <item> compatible with {Windows|Bosch batteries|my older one}?",
                "For how many years is the <item> covered?",
                "Does a {bag|battery|cable} come with the <item>, or is that extra?",
            ),
            wishes=(
                "hear which <item> suits a beginner", "find out the dimensions of the <item>",
                "hear when more of the <item> come in", "check that the <item> is washable",
            ),
            shorts=(
                "dimensions of the <item>", "is the <item> washable?", "more of the <item> soon?",
                "<item> for beginners",
            ),
            sides=(
                "the <item> looks great in the photos", "your measurements chart is handy",
                "the <item> is sold out",
            ),
        ),
    },
)  # fmt: skip
