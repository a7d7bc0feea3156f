"""What the test split says: other phrases, products and frames than in training and validation."""

from __future__ import annotations

from hf_trainpipe.quickstart.grammar import Intent, Wording

__all__ = ["TEST"]

TEST = Wording(
    slots={
        "item": (
            "smart watch", "wardrobe", "frying pan", "suitcase", "dining table", "camera", "speaker",
            "heater", "dress", "printer", "bike helmet", "aquarium",
        ),
        "order": (
            "transaction 2210", "case 8801", "my purchase", "basket no 731",
        ),
        "day": (
            "last night", "back in March", "some days ago", "on Thursday evening", "a while back",
            "earlier today",
        ),
        "due": (
            "noon yesterday", "the end of last week", "the 9th", "before the holidays",
        ),
        "sum": (
            "54 bucks", "$9.99", "€310", "£95",
        ),
        "name": (
            "Chloe", "Mr Fischer", "Dana", "Ahmed", "Greta",
        ),
    },
    greetings=(
        "Morning!", "Hi guys,", "Dear Sir or Madam,", "Hallo,", "Yo,", "Hi support people,",
    ),
    contexts=(
        "Picked up a <item> in your web shop <day>.",
        "Case number {8801|2210}, if that helps.",
        "I hope I've reached the right department.",
        "I tried phoning but hung up after half an hour.",
        "My wife and I use your shop a lot.",
    ),
    closings=(
        "Thank you so much!", "Waiting to hear from you.", "Sincerely, <name>", "xx <name>", "Cheers mate",
        "Come on guys.", "Much obliged.", "Let me know.",
    ),
    asks=(
        "What's the quickest way to <wish>?",
        "Somebody please explain how to <wish>.",
        "My request is to <wish>.",
        "Am I able to <wish>?",
    ),
    contrasts=(
        "Please read carefully: I do not intend to <other>. The goal is to <wish>.",
        "It isn't that I'd like to <other>, what I'd really like is to <wish>.",
        "Last time you helped me to <other>. This time I'm here to <wish>.",
        "Forget what I said about wanting to <other>, I've decided to <wish>.",
    ),
    dismissals=(
        "Not looking to <other> here. <core>",
        "<core> Please don't reply with instructions to <other>.",
        "I have no wish to <other>. <core>",
    ),
    doubles=(
        "<core> Another thing, <side>, not a big deal.",
        "Ignoring that <side>, my actual question is this. <core>",
        "<core> PS: <side>.",
        "I'm aware that <side>, fair enough. However: <core>",
    ),
    intents={
        "track_order": Intent(
            cores=(
                "{I'm sitting at home|We've been in all day} and there's no sign of {the van|my <item>}.",
                "The carrier's map has shown the same dot since <day>, is {the <item>|it} lost?",
                "You said <due>. It's now days past that and I've got no <item>.",
                "A card says they left it with someone, but none of the neighbours {has it|know anything}.",
                "Roughly what day should I expect {the <item>|my shopping}?",
                "I got the dispatch mail <day> and silence ever since.",
                "Is {the <item>|my stuff} on its way or still sitting on your shelf?",
                "My <item> went missing in the post, can you look for it?",
            ),
            wishes=(
                "check how my shipment is coming along", "hear what day the van comes",
                "follow the <item> on its way", "discover where my stuff ended up",
            ),
            shorts=(
                "no sign of the van", "<item> lost in the post?", "what day will it come",
                "carrier has no news",
            ),
            sides=(
                "the van turned up after dark", "the carrier's map is confusing",
                "some of my stuff is still on its way",
            ),
        ),
        "cancel_order": Intent(
            cores=(
                "Please abort {<order>|the <item> order}, my budget got tight.",
                "We got the same <item> as a gift, so kindly don't process {<order>|ours}.",
                "Got carried away {last night|in the sale}, remove {all of it|the <item>} before you "
                "pack it.",
                "I never meant to submit {<order>|that}, kill it please.",
                "Is there any chance of stopping {<order>|the <item>} now? I don't want it any longer.",
                "Void {<order>|the transaction}, I'm getting the <item> locally.",
                "I pulled the plug on the renovation, so no <item> needed, please drop it from your queue.",
                "Whoever handles dispatch: do not send <order>, I've reconsidered.",
            ),
            wishes=(
                "abort <order>", "have the <item> dropped before it's packed", "void the transaction",
                "revoke the order I submitted",
            ),
            shorts=(
                "abort <order>", "void my order", "do not process the <item>", "submitted by mistake",
            ),
            sides=(
                "I aborted a different order <day>", "I was close to revoking it all",
                "someone voided my first basket",
            ),
        ),
        "refund": Intent(
            cores=(
                "You've had the <item> back for ages, when do I see my {<sum>|funds} again?",
                "The <item> looked better online. I'm shipping it back, what's the procedure?",
                "I tried on the <item> and it pinches, so I'll be giving it back.",
                "Please pay back the <sum>, the courier picked the <item> up from me <day>.",
                "Do I need the original carton to give the <item> back?",
                "Not what we'd hoped for, we'd like our money returned.",
                "Your mail confirmed that the <item> I gave back was accepted, yet the credit is missing.",
                "Is there a fee if I bring the <item> back unused?",
            ),
            wishes=(
                "give the <item> back", "have the <sum> credited to me again",
                "recover what I paid for the <item>", "print the slip for giving the <item> back",
            ),
            shorts=(
                "credit for the <item> I gave back", "giving the <item> back", "want my funds again",
                "fee for bringing back the <item>",
            ),
            sides=(
                "the credit for my previous return came quickly", "I considered giving the <item> back",
                "you kindly paid back the postage",
            ),
        ),
        "damaged_or_wrong": Intent(
            cores=(
                "The <item> {reached me|came} with shattered glass.",
                "I unpacked a {left-handed|pink|child's} <item>, definitely not what's on my receipt.",
                "Whatever I press, the <item> stays dead.",
                "The <item> leaks and it's brand new!",
                "The instructions list six legs, I count five.",
                "The zip on the <item> {came off|is jammed} the first time I used it.",
                "It appears you mixed up parcels, I've got another customer's <item>.",
                "The <item> was soaked when I unwrapped it and {rust is showing|it's ruined}.",
            ),
            wishes=(
                "make a complaint about a leaking <item>", "have the mixed-up <item> swapped",
                "show you pictures of the shattered <item>", "have a working <item> instead of this dud",
            ),
            shorts=(
                "<item> leaks", "you mixed up my <item>", "shattered <item>", "<item> is a dud",
                "one leg too few",
            ),
            sides=(
                "the carton was a bit soaked", "the zip is a little stiff", "my previous <item> was a dud",
            ),
        ),
        "payment": Intent(
            cores=(
                "Why does the same sum show up on my credit card again and again?",
                "I get 'transaction refused by issuer' no matter which card I use.",
                "The coupon from your newsletter had no effect, I handed over the full price.",
                "PayPal took <sum>, but your system behaves as if I hadn't paid.",
                "Something called <sum> 'service' is on my statement, I never agreed to it.",
                "The tax office requires a proper bill for <order>.",
                "May I split the cost of the <item> over a few months?",
                "After entering my card number I land on a blank screen.",
                "I was quoted one price for the <item> and debited another.",
            ),
            wishes=(
                "split the cost over a few months", "have a proper bill for tax purposes",
                "find out why PayPal refused me", "have the coupon deducted",
                "query a line on my credit card statement",
            ),
            shorts=(
                "coupon had no effect", "PayPal refused", "bill for the tax office", "same sum taken again",
                "blank screen after card number",
            ),
            sides=(
                "PayPal went smoothly", "the coupon was generous", "I received the bill",
            ),
        ),
        "account_access": Intent(
            cores=(
                "Nothing I type gets me past the login screen.",
                "The verification message takes so long that it expires before I can enter it.",
                "I'd like into my customer area but {it denies me entry|it says no such user exists}.",
                "My PIN has slipped my mind, how can I make a new one?",
                "Since <day> I'm banned from my own user area, no explanation given.",
                "I think my login got stolen, there are purchases I never made and I can't get in.",
                "New laptop, and now your site refuses to believe it's me.",
                "Your two-step check still texts a number I gave up years ago.",
            ),
            wishes=(
                "enter my customer area", "make a new PIN", "lift the ban on my user name",
                "recover a stolen login",
            ),
            shorts=(
                "verification message expires", "banned from my user area", "PIN forgotten", "entry denied",
            ),
            sides=(
                "the verification message was slow", "I made a new PIN <day>", "my user name is rather odd",
            ),
        ),
        "change_order": Intent(
            cores=(
                "Autofill used my parents' place, the <item> must go to 12 Mill Lane instead.",
                "We'll be abroad then, can the van come on {the 28th|some other date}?",
                "Could you make that {two|three} of the <item> instead of one?",
                "I mixed up the zip code on <order>, the right one is 90210.",
                "Switch my <item> to the {walnut|larger} version please, I assume it hasn't been "
                "dispatched.",
                "Have the driver ring {my husband|this other number} rather than me.",
                "Would you redirect {<order>|the <item>} to a locker near my job?",
                "Kindly put my maiden name on the label of <order>.",
            ),
            wishes=(
                "redirect the <item> to a locker", "pick a different date for the van",
                "amend the zip code on <order>", "switch to the walnut version before dispatch",
            ),
            shorts=(
                "redirect to a locker", "zip code mixed up", "different date for the van",
                "two instead of one",
            ),
            sides=(
                "I live at 12 Mill Lane now", "my zip code is right this time",
                "you kindly redirected the last one",
            ),
        ),
        "product_question": Intent(
            cores=(
                "Before I buy: would the <item> {fit through a narrow door|survive a winter outside|suit "
                "a tall person}?",
                "Is the {walnut|red} <item> gone for good or will you restock?",
                "Do your <item> sizes run small?",
                "I can't decide between the cheap and the pricey <item>, what do you recommend?",
                "Roughly how much electricity does the <item> need?",
                "Can I put the <item> in the dishwasher?",
                "What's the fabric of the <item>, any wool in it?",
                "If the <item> fails after a year, do you still repair it?",
                "Are {hooks|batteries|screws} included with the <item>?",
            ),
            wishes=(
                "hear your recommendation on which <item> to buy", "learn what fabric the <item> is",
                "get the specs of the <item>", "find out if you'll restock the <item>",
            ),
            shorts=(
                "specs of the <item>", "will you restock the <item>?", "do sizes run small",
                "<item> fabric",
            ),
            sides=(
                "the specs are clearly listed", "the <item> is lovely", "you restocked the red one",
            ),
        ),
    },
)  # fmt: skip
