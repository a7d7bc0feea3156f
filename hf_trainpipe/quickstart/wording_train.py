"""What the training split says. Written for this project; any likeness to real customers is chance."""

from __future__ import annotations

from hf_trainpipe.quickstart.grammar import Intent, Wording

__all__ = ["TRAIN"]

TRAIN = Wording(
    slots={
        "item": (
            "kettle", "desk lamp", "backpack", "sleeping bag", "radio", "coffee maker", "winter jacket",
            "phone case", "blender", "yoga mat", "office chair", "keyboard", "garden hose", "toaster",
        ),
        "order": (
            "order 48213", "order #77120", "my order", "the order", "order no. 30944", "my last order",
        ),
        "day": (
            "yesterday", "on Monday", "last week", "last Friday", "two weeks ago", "ten days ago",
            "on Sunday",
        ),
        "due": (
            "Tuesday", "last Thursday", "the 14th", "three days ago", "Saturday",
        ),
        "sum": (
            "$40", "39.99", "£25", "120 dollars", "18 euros",
        ),
        "name": (
            "Anna", "Mark", "J. Patel", "Sofia", "Tom",
        ),
    },
    greetings=(
        "Hi,", "Hello,", "Hi there,", "Good morning.", "Hey,", "Hello team,", "Dear support,", "Hiya,",
    ),
    contexts=(
        "I {ordered|bought} a <item> {from you|on your site} <day>.",
        "This is about {the <item> I ordered|<order>}.",
        "I've been a customer for {years|a long time}.",
        "Regarding <order>.",
        "I already {wrote|emailed} <day> and nobody {answered|replied}.",
        "I have a question about the <item> I bought.",
    ),
    closings=(
        "Thanks!", "Thank you.", "Please help.", "Best, <name>", "Many thanks, <name>",
        "Please reply soon.", "Thanks in advance.", "This is urgent.", "I'm really annoyed.", "Cheers",
    ),
    asks=(
        "I {want|need} to <wish>.",
        "{Can|Could} you help me <wish>?",
        "How {do I|can I} <wish>?",
        "I'd like to <wish> {please|}.",
        "Is it possible to <wish>?",
        "I'm trying to <wish>.",
        "Please help me <wish>.",
        "What should I do to <wish>?",
        "I'm writing {because I want|in order} to <wish>.",
    ),
    contrasts=(
        "I don't want to <other>, I {just|only} want to <wish>.",
        "I'm not asking to <other>, I need to <wish>.",
        "I'd like to <wish>, I'm not trying to <other>.",
        "I was told how to <other> but what I need is to <wish>.",
        "{At first|Yesterday} I wanted to <other> but now I want to <wish>.",
        "{I don't mean|It's not my plan} to <other>. I mean to <wish>.",
        "Your agent explained how to <other>, but I asked how to <wish>.",
        "Instead of trying to <other>, I'd rather <wish>.",
        "Last week I wrote because I wanted to <other>. That is done, now I want to <wish>.",
        "This is not about how to <other>, it's about how to <wish>.",
        "No, I didn't ask to <other>. I asked to <wish>.",
    ),
    dismissals=(
        "I don't need to <other>. <core>",
        "<core> And no, I'm not trying to <other>.",
        "Please don't tell me how to <other>. <core>",
        "<core> I have no need to <other>.",
        "The help page just says how to <other>, that's no use. <core>",
        "I never wanted to <other>. <core>",
    ),
    doubles=(
        "<core> Also, <side>, but that can wait.",
        "<core> By the way, <side>.",
        "My main problem: <core> And <side>, but that is less important.",
        "I know <side>, that's fine. <core>",
        "<side>, no problem there. <core>",
        "Although <side>, my question is another. <core>",
        "<core> One more thing: <side>.",
        "<core> Not so important, but <side>.",
        "Never mind that <side>. <core>",
        "First: <core> Second, just so you know: <side>.",
    ),
    intents={
        "track_order": Intent(
            cores=(
                "Where is my {order|parcel|package|<item>}?",
                "My {package|parcel|order} {still hasn't arrived|has not arrived yet|didn't arrive}. It "
                "was {due|expected} <due>.",
                "The tracking {page|link} {hasn't changed|shows nothing new} since <day>.",
                "When will {my <item>|<order>|my package} {arrive|be delivered}?",
                "It says {shipped|out for delivery} but nothing {came|has come}.",
                "Tracking says delivered but {there is no parcel here|I have not received anything}.",
                "I have been waiting for {the <item>|my parcel} since <day> and it {isn't here|hasn't "
                "come}.",
                "Has {<order>|my <item>} been {shipped|sent} yet?",
                "{The courier|The driver} never {showed up|came} with my {package|<item>} <day>.",
                "Delivery of the <item> is {late|delayed}, {any news|do you know where it is}?",
                "Nobody rang the bell <day> although {the app|your mail} said my <item> was coming.",
                "My <item> has been {sitting|held} in the same {hub|city} for {a week|days}.",
                "Can you tell me how {far away|many days away} my <item> is?",
                "I stayed home all day for the delivery and {no one came|nothing happened}.",
                "The {mail carrier|delivery man} left a note but I can't find the {parcel|package} "
                "anywhere.",
                "Did my <item> get lost {on the way|in transit}?",
                "You told me it would be here {by|on} <due>, it is still missing.",
                "I only got {one|half} of my parcels, is the other one {coming|on the road}?",
                "No <item> {so far|yet}, it should have {come|been here} {days ago|<due>}.",
                "Is my shipment {lost|stuck in customs|still in your warehouse}?",
                "The status has been {in transit|being processed} for {ages|nine days} now.",
                "Your email says delivered, {my neighbours have nothing|the mailbox is empty} and "
                "neither do I.",
                "{What's taking|Why does} the <item> {so long|take so long}?",
                "It was dispatched <day> and since then {I have heard nothing|no news}.",
                "Which courier {brings|carries} {<order>|my <item>} and when should I be at home?",
                "I expected {the <item>|my things} {by now|before the weekend}, please {check|find out} "
                "where it got to.",
            ),
            wishes=(
                "know where {my parcel|it|my order} is", "track {my package|the delivery|<order>}",
                "know when {it|the <item>} will arrive", "find out {if|whether} it has been shipped",
                "get an update on the delivery", "find my lost parcel",
                "check the delivery status of <order>", "see on which day the parcel comes",
                "ask the courier where the <item> is", "hear when the courier comes",
                "look up where the shipment is right now", "get my missing shipment traced",
            ),
            shorts=(
                "{where is|wheres} my {parcel|<item>}", "<item> not arrived", "tracking not updating",
                "delivery {late|delayed} again", "package {missing|still not here}", "shipment lost",
                "when does the courier come", "still no <item>", "no delivery on <due>",
            ),
            sides=(
                "the parcel came a day late", "the tracking page was slow to update",
                "the delivery of another parcel is still open", "the <item> was shipped <day>",
                "the courier was late but friendly", "I'm still waiting for one small parcel",
            ),
        ),
        "cancel_order": Intent(
            cores=(
                "Please cancel {<order>|my order for the <item>}.",
                "I {changed my mind|don't need the <item> any more}, cancel it {please|before it ships}.",
                "I {ordered|bought} {the wrong <item>|two by mistake}, can you {stop|cancel} the order?",
                "I {clicked|pressed} buy {twice|by accident}, please cancel one order.",
                "Cancel {my order|everything|<order>}, I found it cheaper {elsewhere|in a shop}.",
                "The cancel button {is greyed out|doesn't work}, please cancel <order> for me.",
                "{I want this order cancelled|I'd like this order cancelled} because it takes too long "
                "to ship.",
                "My {son|daughter} ordered {a <item>|this} without asking, {I need it cancelled|please "
                "cancel}.",
                "Is it too late to cancel {<order>|the <item>}?",
                "I {don't|do not} want the <item> {any longer|anymore}, please don't ship it.",
                "Stop <order> {right away|before dispatch}, I bought it by {mistake|accident}.",
                "We {no longer need|have no use for} the <item>, so please take back the order before it "
                "leaves.",
                "Please delete <order> {from your system|}, I have {decided against it|other plans now}.",
                "I {ordered|bought} this an hour ago and already regret it. {Remove|Revert} it please.",
                "{My plans have changed|Money is short this month}, so I have to drop the <item> I just "
                "ordered.",
                "My {wife|brother} already has a <item>, so {never mind my order|forget my order}, "
                "please don't pack it.",
                "Until when can an order be {stopped|cancelled}?",
                "I {had a change of heart|thought it over} and {won't take|don't want} the <item> any "
                "more, nothing should be shipped.",
                "Please withdraw {<order>|the order}, {it is no longer needed|we made a mistake}.",
                "I have {second thoughts|doubts} about the <item> and {would rather not buy it|don't "
                "want to buy it any more}.",
                "{Can you undo|Is there a way to undo} an order I {just placed|placed by mistake}?",
                "Don't {pack|prepare|dispatch} the <item>, I {found another one|got one from a friend}.",
                "I hit the {order|buy} button too {early|fast}, take it back please.",
                "We {won't|will not} be needing {the <item>|<order>}, please {close it|strike it} before "
                "it ships.",
                "Forget about {<order>|the <item>}, I {can't afford it|bought it in a store} in the end.",
                "I would like to step back from {my purchase|buying the <item>} as long as it is not "
                "shipped.",
            ),
            wishes=(
                "cancel {my order|<order>|the <item>}", "cancel it before it ships", "stop the order",
                "cancel one of the two orders", "take the <item> off my order and cancel it",
                "drop the <item> before you pack it", "revert the purchase I just made",
                "prevent the <item> from being sent", "get rid of an order made by mistake",
                "undo <order> since it hasn't shipped yet", "not buy the <item> after all",
                "step back from the order", "tell the warehouse not to ship <order>",
            ),
            shorts=(
                "cancel order please", "cancel the <item>", "{need|want} to cancel",
                "cancellation of <order>", "ordered by mistake, cancel", "don't ship <order>",
                "undo my order", "changed my mind, no <item>", "stop the shipment of <order>",
            ),
            sides=(
                "I cancelled another order <day>", "I thought about cancelling the <item>",
                "I may cancel the <item> later", "the old order was cancelled",
                "I had to stop an order once before", "I wasn't sure about keeping the order",
            ),
        ),
        "refund": Intent(
            cores=(
                "I {sent|returned} the <item> {back|} <day> and {still have no refund|the refund hasn't "
                "come}.",
                "I want {a refund|my money back} for the <item>.",
                "How do I return {the <item>|this}? I don't like it.",
                "The <item> is {too small|too big|not for me}, I'd like to send it back.",
                "When will I {get|receive} my refund {of <sum>|}?",
                "{Can|Could} you send me a return label for the <item>?",
                "I'm not happy with the <item> and want to return it for {a refund|my money}.",
                "You promised a refund of <sum> {<day>|} and nothing has {come|arrived} in my account.",
                "What is your return policy? I {kept|have} the <item> {unopened|in the box}.",
                "You {got|received} my returned <item> {<day>|long ago} but I wasn't paid back.",
                "{The <item> disappointed me|We don't like the <item>}, how can we give it back?",
                "Where do I {take|bring|drop off} a <item> that I want to return?",
                "How long do I have to {return|send back} the <item>?",
                "Who pays {the shipping|the postage} if I {return|send back} the <item>?",
                "I used the <item> once and it's not what I {hoped for|expected}, I want my "
                "{money|<sum>} back.",
                "The <sum> for {the return|the <item> I returned} {isn't|is not} on my {bank|card} "
                "statement yet.",
                "It doesn't {fit|match my room}, please arrange {a pickup|the return} and pay me back.",
                "The {money|amount} for {the <item> I sent back|my return} is {still|} missing.",
                "I have {returned everything|sent the <item> in}, when do you {repay|reimburse} me?",
                "I'd like to {hand back|return} the <item>, it {isn't|is not} {what I imagined|nice "
                "enough}.",
                "We tried the <item> for {a day|a week} and {won't keep it|don't want to keep it}, how "
                "does a return work?",
                "{The colour looks different at home|It looked better in the photo}, so I'm returning "
                "the <item>.",
                "Do I need {the original box|the receipt} for {a return|sending the <item> back}?",
                "The return of my <item> was {accepted|confirmed} <day>, but {where is the money|no "
                "refund was made}?",
                "My {return|parcel with the <item>} reached your {warehouse|store} {<day>|weeks ago}, "
                "please transfer the {money|<sum>}.",
            ),
            wishes=(
                "return the <item>", "get a refund", "get my money back", "send {it|the <item>} back",
                "know when my refund comes", "get a return label", "bring back a <item> I don't like",
                "be paid back the <sum> for a return", "have the returned <item> credited",
                "arrange the pickup of a return", "be reimbursed after sending the <item> in",
                "know how returning works", "return something that I tried and won't keep",
            ),
            shorts=(
                "refund {please|not received}", "return <item>", "money back", "no refund yet",
                "return label needed", "where is the money for my return", "reimbursement please",
                "<item> goes back", "how to return?",
            ),
            sides=(
                "I sent something else back <day>", "a refund for an older order already came",
                "I might return the <item> one day", "the return of the <item> went fine",
                "you paid me back for something else", "I may not keep the <item>",
            ),
        ),
        "damaged_or_wrong": Intent(
            cores=(
                "The <item> arrived {broken|damaged|with a crack}.",
                "You sent {me|} the wrong {colour|size|<item>}.",
                "The box was {open|crushed} and the <item> is {damaged|scratched}.",
                "My <item> {stopped working|broke} after {two days|one use}.",
                "{A part|The cable|A screw} is missing from the box of the <item>.",
                "I {ordered|asked for} a <item> and got {a different one|something else}.",
                "The <item> doesn't {turn on|work} at all, it's {defective|faulty}.",
                "There is a {hole|big scratch} in the <item> you sent.",
                "I received {only one of two|an empty box} and {one|the <item>} is missing.",
                "There is {water|oil} coming out of the new <item>.",
                "{The glass|The handle|A leg} of the <item> was {cracked|broken off} when I opened the "
                "box.",
                "I {unpacked|opened} the box and found a {red|larger} <item>, mine should be "
                "{black|smaller}.",
                "The <item> makes a {strange|loud} noise and {smells|gets hot}.",
                "This <item> belongs to {somebody else|another customer}, you {switched|mixed} the labels.",
                "The <item> was {dirty|ripped|wet} when it came out of the box.",
                "Day one and the <item> is already {dead|useless}.",
                "The {screws|manual|batteries} that should be in the box are not there, I can't "
                "{build|use} it.",
                "The {button|lid|strap} of the <item> fell off.",
                "The <item> is {in pieces|bent|smashed}, {look at the photo|I only just opened it}.",
                "After {one day|an hour} my <item> {died|quit} and {nothing helps|it won't charge}.",
                "This is not the <item> {I chose|from my order}, it's {another model|a different colour}.",
                "You {forgot|left out} {the cover|one piece|the plug} of the <item>.",
                "{It is|The <item> is} {dented|stained|leaking}, {must be from transport|and it's brand "
                "new}.",
                "I got {a stranger's|another person's} parcel, {there is|with} a <item> that I never "
                "ordered.",
                "The {zipper|seam|hinge} {tore|came loose} {the first time|on day two}.",
                "The <item> won't {start|switch on|close}, I think it's a {faulty one|bad unit}.",
            ),
            wishes=(
                "report a {broken|damaged} <item>", "tell you the <item> is {broken|defective}",
                "get the missing part", "exchange the wrong <item> for the right one",
                "get a replacement for the {broken|damaged} <item>",
                "complain about a <item> that came {ripped|cracked}", "send you photos of the damage",
                "get a <item> that works instead of this one", "tell you I got someone else's <item>",
                "swap the faulty <item>", "have the forgotten part sent",
                "report that the <item> died after a day", "complain that another <item> was in the box",
            ),
            shorts=(
                "<item> {broken|damaged}", "wrong {item|size} sent", "missing part",
                "{defective|faulty} <item>", "got the wrong <item>", "<item> in pieces", "<item> died",
                "part forgotten", "not the <item> I ordered",
            ),
            sides=(
                "the box had a small dent", "the <item> has a tiny scratch",
                "the first <item> was broken but you replaced it", "one of the colours was wrong last time",
                "the wrapping was a bit torn", "the <item> squeaks a little",
            ),
        ),
        "payment": Intent(
            cores=(
                "I was charged {twice|two times} for {<order>|the <item>}.",
                "My {card|payment} was {declined|refused} {at checkout|} but {the card works|there is "
                "money on it}.",
                "There is a charge of <sum> {on my card|} that I don't {recognise|know}.",
                "The {discount code|voucher} was not {applied|taken off} when I paid.",
                "{Checkout|The payment page} {shows an error|crashes} when I {pay|enter my card}.",
                "I paid <sum> and {the order still says unpaid|it shows as not paid}.",
                "You {charged|billed} me <sum> more than the price {shown|on the site}.",
                "Can I pay {by invoice|with PayPal|in instalments}?",
                "I need {an invoice|a receipt} for {<order>|the <item>}.",
                "The same {amount|price} was taken from my account {again|twice}.",
                "{None of my cards is|My credit card isn't} accepted when I try to {pay|check out}.",
                "Money {was taken|went off} but {the shop|your system} says I {haven't|have not} paid.",
                "What is this {<sum>|extra} on my {bank statement|bill}? I never {bought|agreed to} that.",
                "My {gift card|coupon} is {rejected|ignored} at checkout.",
                "Please {send|email} me a bill with my {company name|tax number}.",
                "The {total|price} on the bill is {higher|different} than what I {saw|was promised}.",
                "After I enter my card the page {stays blank|freezes}.",
                "Is it possible to pay {later|monthly|on delivery}?",
                "My {debit card|Mastercard} {won't go through|gets refused} although {my bank sees no "
                "problem|it works elsewhere}.",
                "You {debited|took} {<sum>|the money} two times, {my bank shows both|please look into it}.",
                "I entered the {promo|voucher} code and {nothing came off|still had to pay everything}.",
                "{PayPal|My bank} {confirmed|shows} the payment, but the order is {marked open|waiting "
                "for payment}.",
                "There is {an odd|a strange} debit of <sum> {from your shop|with your name} on my "
                "statement.",
                "For my {tax return|bookkeeping} I need {a proper invoice|the receipt with VAT}.",
                "Which {ways to pay|payment methods} do you {offer|accept}?",
                "The price {at the till|I paid} was <sum> {more|higher} than {advertised|on the product "
                "page}.",
                "When I press pay {nothing happens|there is only a white page}.",
            ),
            wishes=(
                "pay {by card|with PayPal}", "report a double charge",
                "get {an invoice|a receipt} for <order>", "know why my {card|payment} was declined",
                "use my discount code", "ask about a charge of <sum> on my card", "pay in parts",
                "find out what the <sum> on my statement is", "have my coupon accepted",
                "get a bill for my company", "get help because the card payment fails",
                "ask why the bank was debited two times", "pay by bank transfer",
                "get a VAT receipt for my bookkeeping", "know which payment methods you take",
                "use a voucher at checkout",
            ),
            shorts=(
                "charged twice", "card declined", "payment {failed|error}", "invoice {please|needed}",
                "unknown charge <sum>", "paid but order open", "voucher not working", "debited too much",
                "which payment methods?",
            ),
            sides=(
                "I paid with my card", "the payment of <sum> went through", "the invoice is fine",
                "my card was declined the first time but then it worked", "the bank confirmed my payment",
                "I used a coupon", "the bill arrived by mail",
            ),
        ),
        "account_access": Intent(
            cores=(
                "I can't log in {to my account|}.",
                "I forgot my password and the reset {email|link} {never comes|doesn't work}.",
                "My account {is|has been} {locked|blocked} after too many {tries|attempts}.",
                "It says {wrong password|user not found} but {I'm sure it's right|my details are correct}.",
                "I {changed|lost} my phone and can't get the {login|security} code.",
                "The {app|site} logs me out {every time|all the time}.",
                "Someone {else|} {logged in to|hacked} my account <day>.",
                "I no longer have {the email|my old email} I signed up with and can't {sign|log} in.",
                "Please {unlock|reset} my account.",
                "The login page {keeps|is} {loading|refusing my password}.",
                "I have a new {phone|computer} and it doesn't {let me in|recognise me}.",
                "The {code|message} for signing in {arrives too late|never reaches me}.",
                "I was {kicked|thrown} out and {cannot|can't} get back in.",
                "Your site says my user {doesn't exist|is disabled}, but I have been using it for years.",
                "{Somebody|A stranger} got into my account and changed {the password|my email}.",
                "How can I {get in|enter} if I don't remember my {password|user name}?",
                "My {profile|account} was {closed|suspended} and I don't know why.",
                "{Signing in|Login} {is impossible|fails} since {<day>|the update}.",
                "Every {morning|time} I open the app {I'm signed out|I have to sign in again}.",
                "I'm {locked out|blocked} and {the text with the code|the confirmation SMS} {doesn't "
                "come|is late}.",
                "My old {number|phone} is gone and the {two-factor|verification} code still goes there.",
                "The {site|app} says my {login|credentials} are {invalid|unknown}, {they are not|I "
                "double-checked}.",
                "There was a {sign in|login} from {another country|an unknown device}, I think {someone "
                "has my password|I was hacked}.",
                "I {can't remember|lost} my {PIN|password|login}, how do I {get|make} a new one?",
                "Why {is my user|am I} {banned|suspended|frozen}? I did nothing wrong and want to sign in.",
            ),
            wishes=(
                "log in to my account", "reset my password", "unlock my account",
                "sign in {again|on my new phone}", "get the login code", "get into my profile again",
                "set a new password", "get back an account that was hacked",
                "pass the two-factor check with a new number", "sign in without my old phone",
                "get past the login screen", "make a new PIN for my login", "reactivate my suspended user",
            ),
            shorts=(
                "cant log in", "password reset {not working|please}", "account locked",
                "login {error|problem}", "no security code", "locked out", "invalid credentials",
                "SMS code missing", "user suspended", "forgot PIN",
            ),
            sides=(
                "I had to reset my password <day>", "login was slow today", "I'm logged in on my phone",
                "my account was locked last month", "I forgot my password once",
                "the sign in code was late", "I use a new user name",
            ),
        ),
        "change_order": Intent(
            cores=(
                "I {moved|entered the wrong address}, please send {<order>|the <item>} to my new address.",
                "Can you change the {delivery|shipping} address of <order>?",
                "I {put|typed} the wrong {street|house number|postcode} in {<order>|my order}.",
                "Can I change the {size|colour} of the <item> {in my order|} before it ships?",
                "Please deliver {<order>|the <item>} on another day, {I'm away|nobody is home}.",
                "Please add {another <item>|one more} to <order>.",
                "Can I change the delivery {date|time} to {the evening|next week}?",
                "I need to {update|correct} the {phone number|name} on <order>.",
                "Could you ship {<order>|it} to {my office|a pick-up point} instead?",
                "The parcel should go to {my mother|my work} {rather than|and not} my home.",
                "I forgot the {apartment|flat} number in the address, it is 12.",
                "I'd rather have the {blue|bigger} <item>, {can you swap it before it leaves|is it too "
                "late to switch}?",
                "Please hold <order> until {I'm back from holiday|next Friday}.",
                "Can I make it {three|two} <item>s instead of one?",
                "The courier should {leave it at|bring it to} {the reception|my neighbour}.",
                "My name is spelled wrong on the {label|order}, please fix it.",
                "Is there still time to {edit|modify} <order>? The street is {wrong|old}.",
                "{Bring|Send} {the <item>|it} to {my sister|the pick-up shop|our new place}, not to the "
                "old {house|address}.",
                "The {zip code|house number} {on <order>|I gave} is wrong, it should be {10115|7A}.",
                "{We are away|I'm travelling} {that day|until the 5th}, so please come {later|the week "
                "after}.",
                "Make it {two|the black one|a size L}, please, {it's not packed yet, I hope|if you can "
                "still edit the order}.",
                "Put {another|one more} <item> into {the same box|<order>}, I'll pay the difference.",
                "The driver {should call|must ring} {my wife|a different number} when he comes, please "
                "{note|change} that.",
                "Can {<order>|the <item>} go to a {parcel locker|collection point}?",
                "I want the {same <item>|<item>} in {grey|medium} instead of the {white|small} one I "
                "picked, {before it is sent|can you swap it in the order}?",
            ),
            wishes=(
                "change the {delivery|shipping} address", "change the {size|colour} in my order",
                "move the delivery to another day", "add {a <item>|one more} to my order",
                "correct the {address|name} on <order>",
                "have the <item> sent to {my office|my parents} instead",
                "switch to the {blue|bigger} version", "postpone the delivery by a week",
                "edit the phone number for the courier", "order two instead of one",
                "send it to a parcel locker", "put one more <item> into the same order",
                "get the delivery a week later", "correct the zip code",
                "have another person named on the label",
            ),
            shorts=(
                "change address", "wrong address on <order>", "new delivery date",
                "change {size|colour} of <item>", "add item to order", "other address please",
                "deliver a week later", "swap colour before shipping", "make it two", "deliver to locker",
            ),
            sides=(
                "I moved house <day>", "I have a new phone number",
                "I changed the delivery date once already", "the address was corrected <day>",
                "my street name is often misspelt", "you changed the date for me last time",
            ),
        ),
        "product_question": Intent(
            cores=(
                "Does the <item> {come in|exist in} {black|other colours|a bigger size}?",
                "When will the <item> be {back in stock|available again}?",
                "What {size|model} should I {buy|choose} if I {am 180 cm|usually wear M}?",
                "Is the <item> {waterproof|dishwasher safe|made of leather}?",
                "{How heavy|How big|How long} is the <item>?",
                "Does the <item> {work|fit} with {my iPhone|a 220 V plug|an older model}?",
                "What is the difference between the {two|old and the new} <item> {models|versions}?",
                "How long is the {warranty|guarantee} on the <item>?",
                "Do you {sell|have} {spare parts|filters|a charger} for the <item>?",
                "How do I {clean|set up|use} the <item>?",
                "I'm {thinking about|considering} the <item>, is it {good for|suitable for} "
                "{beginners|small flats|children}?",
                "Will you {get|have} the {blue|large} <item> again {soon|this month}?",
                "Can the <item> be {washed|left outside|used in the rain}?",
                "What {material|colour} is the <item> exactly?",
                "{Are batteries|Is a cable|Is a bag} included with the <item>?",
                "Which <item> would you {recommend|suggest} for {travel|every day}?",
                "How much {power|space} does the <item> need?",
                "I'm {between two sizes|tall}, which <item> {fits|do I take}?",
                "Can you repair the <item> if it breaks after {two years|the warranty}?",
                "I need a <item> for {a small room|my kid|camping}, which {one|model} is {best|right}?",
                "Do the {sizes|measurements} {run small|match EU sizes}?",
                "{What are|Can you give me} the {measurements|dimensions|specs} of the <item>?",
                "Before ordering: is the <item> {loud|heavy|easy to use}?",
                "The <item> is {sold out|not available}, will {more|new ones} come?",
                "Is the <item> {safe in the dishwasher|made for outdoors|OK in the washing machine}?",
                "What does the <item> come with, {is a case|are cables|is a stand} {in the set|extra}?",
                "{Cheaper or pricier|The small or the large} <item>, what would you take?",
                "Would the <item> {fit a tall person|go through a 70 cm door|match a Bosch drill}?",
            ),
            wishes=(
                "know {if|whether} the <item> is in stock", "know which size {to buy|fits me}",
                "know how {big|heavy} the <item> is",
                "ask {what the <item> is made of|how to clean the <item>}",
                "know if the <item> {is waterproof|works with my phone}",
                "ask about the warranty of the <item>", "get advice on which <item> to choose",
                "hear more about the features of the <item>", "know what comes with the <item>",
                "find out when the <item> is restocked", "know the measurements of the <item>",
                "find out if the <item> is machine washable", "hear if the <item> suits kids",
                "know when new <item>s come in",
            ),
            shorts=(
                "<item> in stock?", "size of the <item>?", "is the <item> waterproof",
                "warranty on <item>?", "<item> colours", "measurements of the <item>",
                "when is the <item> available", "which <item> for kids", "<item> washable?",
            ),
            sides=(
                "I like the new <item> model", "the <item> is out of stock now",
                "the size guide was helpful", "the <item> seems well made", "the <item> has nice colours",
                "I read the description of the <item>",
            ),
        ),
    },
)  # fmt: skip
