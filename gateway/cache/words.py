"""Closed word lists of English by which two questions are told apart: function words, numbers, negations, opposites.

Data only; it knows neither texts nor pairs.
"""

from __future__ import annotations


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _split("""
a an the of in on at by for with to from into as is are was were be been being am do does did doing have has had
having i me my mine myself you your yours yourself we us our he she it its they them their this that these those
there here what which who whom whose when where why how and or but if so then than can could will would should
shall may might must please tell give show list find get let want need like know just also some any all each
every one about more really hi hello hey ok thanks thank yes just able way best s t m re ve d ll im
""")

NEGATIONS = _split("""
not no never without cannot none nor neither nobody nothing except excluding exclude excluded unable impossible
isn't aren't wasn't weren't don't doesn't didn't can't couldn't won't wouldn't shouldn't haven't hasn't hadn't
isnt arent wasnt dont doesnt didnt cant couldnt wont wouldnt shouldnt havent hasnt non unless lack fail failed
""")

_COUNTING = """zero
one,first
two,second,twice,double
three,third,thrice,triple
four,fourth
five,fifth
six,sixth
seven,seventh
eight,eighth
nine,ninth
ten,tenth
eleven,eleventh
twelve,twelfth
thirteen
fourteen
fifteen
sixteen
seventeen
eighteen
nineteen
twenty"""
NUMBER_WORDS: dict[str, str] = {
    word: str(value) for value, line in enumerate(_COUNTING.split("\n")) for word in line.split(",")
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90"}
NUMBER_WORDS |= {"hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "half": "0.5"}

# The two sides of an opposition. A word that stands on both lists of different rows is fine: sides are told by row.
_OPPOSITES = """on/off
enable,enabled,activate,allow/disable,disabled,deactivate,block,forbid,prevent
most,maximum,max,highest,largest,biggest,greatest,longest,top,tallest,more,higher,larger,greater,over,above,exceed,longer/least,minimum,min,lowest,smallest,fewest,shortest,bottom,less,lower,smaller,fewer,under,below,shorter
before,earlier,prior,until,earliest,oldest/after,later,since,latest,newest,following
increase,raise,gain,up,rise,upgrade,grow,louder/decrease,reduce,lower,lose,down,fall,downgrade,shrink,drop,quieter
buy,purchase,import,borrow,pay,receive,receiving,received,get,incoming/sell,sale,export,lend,earn,send,sending,sent,outgoing
open,start,begin,beginning,first,opening,arrive,arrival,arriving,arrives,enter,install,add,create,connect,join,lock/close,end,finish,last,closing,stop,depart,departure,departing,leave,leaving,leaves,exit,uninstall,remove,delete,disconnect,quit,unlock
good,best,advantage,advantages,pros,benefit,benefits,better,safe,positive,healthy/bad,worst,disadvantage,disadvantages,cons,drawbacks,worse,unsafe,dangerous,negative,harmful
hot,warm,warmer,summer,heat/cold,cool,cooler,winter
fast,faster,quick,fastest,quickest/slow,slower,slowest
cheap,cheapest,cheaper,inexpensive/expensive,costly,priciest,dearest
male,man,men,boy,boys,husband,father,he,his,him,boyfriend,son/female,woman,women,girl,girls,wife,mother,she,her,girlfriend,daughter
love,like,likes,agree,true,right,correct,yes/hate,dislike,disagree,false,wrong,incorrect
ascending,asc,forward,forwards,north,northern,east,eastern,left,inside,internal,public,input,import,encode,encrypt,compress/descending,desc,backward,backwards,south,southern,west,western,right,outside,external,private,output,export,decode,decrypt,decompress
include,including,includes,with,contain,contains,has/exclude,excluding,excludes,without,lacks,except
possible,legal,able,success,win,alive,same,similarity,similarities,single,unmarried,direct,nonstop/impossible,illegal,unable,failure,lose,dead,different,difference,differences,married,indirect,connecting
credit,deposit,asset,assets,supply,demand,push,teacher,parent,parents,child/debit,withdraw,withdrawal,liability,liabilities,pull,student,children
morning,am,day,breakfast,domestic,past,old,older,young,younger,hard,soft/evening,afternoon,pm,night,dinner,international,future,new,newer,easy
and/or
undergraduate,upper,mutual,common/graduate,lower,non
both,either/neither
all,every,always/none,never,some"""
OPPOSITES: dict[str, tuple[tuple[int, int], ...]] = {}
for _row, _line in enumerate(_OPPOSITES.split("\n")):
    for _side, _words in enumerate(_line.split("/")):
        for _word in _words.split(","):
            OPPOSITES[_word] = (*OPPOSITES.get(_word, ()), (_row, _side))

_SYNONYMS = """show list give display find return tell print get search locate output provide
price cost fare fee charge expense
delete remove erase
folder directory
big large huge
biggest largest greatest
cheapest lowest-priced least-expensive
contain include have hold
make create build develop generate
begin start
stop quit end
fix repair solve resolve troubleshoot
purchase buy
phone mobile smartphone cellphone
movie film
paper article publication
class course
teach instruct offer
professor instructor teacher
doctor physician
illness disease sickness
covid coronavirus covid-19 corona
happen occur
reason cause
way method
improve better enhance increase
lose reduce
weight fat
money cash
job career work employment
earn make
learn study
difference distinction
important significant
company firm business
nation country
city town
person people human
kid child
mom mother
dad father
use utilize employ using
change modify alter switch
below under beneath underneath
recursively recursive
current present
various different multiple several
quick fast rapid
near close nearby around
border adjoin neighbor next adjacent
travel go fly
plane aircraft airplane
hotel accommodation
restaurant place eatery
picture photo image
bank atm
help assist aid
safe secure harmless
effect impact influence consequence
affect impact
symptom sign
treat cure treatment remedy therapy heal
medication medicine drug med
pain ache hurt painful sore
pregnant pregnancy
normal usual common
often frequent frequently
many numerous
total overall altogether combined sum
average mean
each every per
author writer
write wrote written publish author
population inhabitant
high tall height elevation
length long
river stream
state province"""
SYNONYMS: dict[str, str] = {}
for _line in _SYNONYMS.split("\n"):
    _first = _line.split(" ")[0]
    for _word in _line.split(" "):
        SYNONYMS.setdefault(_word, _first)

TIMES = _split("""
today tomorrow yesterday now tonight monday tuesday wednesday thursday friday saturday sunday weekend week month
year january february march april may june july august september october november december spring summer fall
winter daily weekly monthly yearly annual hourly morning afternoon evening night noon midnight currently
""")
UNITS = _split("""
second minute hour day week month year mile kilometer km meter inch foot feet cm mm gram kilogram kg pound ounce
liter litre gallon ml mg byte kb mb gb tb percent % dollar euro cent usd eur rupee lakh crore celsius fahrenheit
am pm credit block line character time fold degree
""")
PREPOSITIONS = _split("""
from to by before after in of than for with on at between without under above into as via
""")
PERSONS: dict[str, str] = {
    word: person
    for person, words in (("1", "i me my mine im i'm i've we us our myself"), ("2", "you your yours u yourself"))
    for word in words.split()
}
QUESTION_TYPES = (
    *("how many", "how much", "how long", "how old", "how far", "how often", "how big", "how", "what", "which"),
    *("who", "whom", "whose", "when", "where", "why", "can", "could", "should", "would", "will", "is", "are", "am"),
    *("was", "do", "does", "did", "has", "have", "if"),
)
MODALS = _split("can could should would will must may might")
