// Package proptest holds the property test of the whole: random lives of
// candidates, mail, servers and receivers are played on the real parts (passes,
// directory, courier), and the promises are checked after every one of them. It
// has no code outside its tests.
//
// One life is a script of some forty steps, drawn from a seed: mail arrives,
// moves and goes; candidates come, change, stop, go and come back; jobs and users
// change; mailboxes are polled; servers forget their numbering; the receiver
// fails, refuses, is slow; the store fails, before or after it persisted; the
// daemon is killed. A step may also happen inside another one, between two calls
// that a pass makes on the store. Then everything is mended, and all that is owed
// must come.
//
// Time is virtual (testing/synctest), and so a life of two months takes a
// millisecond or two. A life depends on nothing but its seed: what fails can be
// played again, and is cut down to the few steps that fail.
//
//	lives_test.go     the property; a seed from the environment plays one life
//	script_test.go    what a life is made of, drawing one, printing one
//	servers_test.go   the mail servers: the scripted fake, and Gmail
//	world_test.go     the parts: started, killed, started again on what is left
//	play_test.go      one step after the other: mail, passes, tasks, the outbox
//	people_test.go    steps of the directory
//	end_test.go       the quiet end: everything is mended, and what is owed must come
//	model_test.go     what must, may and must not be delivered
//	receiver_test.go  the ATS, and what every ATS may rely on
//	shrink_test.go    from sixty steps to the few that fail
//	bugs_test.go      planted bugs, and that each of them is found
//	planted_test.go   how they are planted: wrappers between the parts
//
// The model is simple on purpose. Where the contract leaves a choice (a mail that
// came and went between two polls) it says that a pair may be delivered; the
// test counts how often, and fails when too little is left that must.
package proptest
